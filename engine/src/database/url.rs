//! The address of a database with several hosts, taken apart into addresses with one.

use sqlx::postgres::PgConnectOptions;

use super::{Host, Needs};

/// What is wrong with a database's address. Never quotes it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is no address of Postgres.
    #[error("the database's address must look like postgres://user:password@host:port/database")]
    NotPostgres,
    /// A list of hosts has a gap.
    #[error("host {0} of the database's list is empty")]
    EmptyHost(usize),
    /// Hosts and ports do not match.
    #[error(
        "the database's address names {hosts} hosts and {ports} ports: give one port, or one each"
    )]
    Ports {
        /// How many hosts there are.
        hosts: usize,
        /// How many ports.
        ports: usize,
    },
    /// A host's part cannot be read.
    #[error("the database's address is malformed at host {host}: {reason}")]
    Malformed {
        /// Counts from 1.
        host: usize,
        /// What sqlx says.
        reason: String,
    },
    /// `target_session_attrs` asks for what the engine cannot use.
    #[error("target_session_attrs must be read-write, primary or any, not {0:?}")]
    Target(String),
}

/// What stands between the words of an address.
struct Parts<'a> {
    scheme: &'a str,
    /// With the `@` behind it.
    user: &'a str,
    hosts: &'a str,
    path: &'a str,
    query: Vec<&'a str>,
}

pub(super) fn parse(url: &str) -> Result<(Vec<Host>, Needs), UrlError> {
    let mut parts = Parts::of(url)?;
    let needs = match parts.take("target_session_attrs") {
        None | Some("read-write" | "primary") => Needs::Writes,
        Some("any") => Needs::Reads,
        Some(other) => return Err(UrlError::Target(other.to_owned())),
    };
    let hosts = match parts.take("host") {
        Some(listed) => parts.with_query_hosts(listed)?,
        None => parts.with_hosts()?,
    };
    let read = hosts.iter().enumerate().map(|(place, url)| {
        let options = url.parse::<PgConnectOptions>();
        options.map(Host::at).map_err(|error| UrlError::Malformed {
            host: place + 1,
            reason: error.to_string(),
        })
    });
    Ok((read.collect::<Result<_, _>>()?, needs))
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::NotPostgres)?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(UrlError::NotPostgres);
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, hosts) = authority.split_at(at);
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        Ok(Self {
            scheme,
            user,
            hosts,
            path,
            query: query.split('&').filter(|pair| !pair.is_empty()).collect(),
        })
    }

    /// Takes a parameter out of the query; its last value counts.
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let mut taken = None;
        self.query.retain(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key == name {
                taken = Some(value);
            }
            key != name
        });
        taken
    }

    /// One address for each host that stands before the path.
    fn with_hosts(&mut self) -> Result<Vec<String>, UrlError> {
        let hosts: Vec<&str> = self.hosts.split(',').collect();
        if hosts.len() == 1 {
            return Ok(vec![self.address(hosts[0], &[])]);
        }
        let ports = self.ports(hosts.len())?;
        let mut all = Vec::with_capacity(hosts.len());
        for (place, host) in hosts.iter().enumerate() {
            if host.is_empty() {
                return Err(UrlError::EmptyHost(place + 1));
            }
            let port = ports.get(place).or(ports.first());
            let port = port.map(|port| format!("port={port}"));
            all.push(self.address(host, port.as_slice()));
        }
        Ok(all)
    }

    /// One address for each host of the query, which may be the folder of a socket.
    fn with_query_hosts(&mut self, listed: &str) -> Result<Vec<String>, UrlError> {
        let listed = listed.replace("%2C", ",").replace("%2c", ",");
        let hosts: Vec<&str> = listed.split(',').collect();
        let ports = self.ports(hosts.len())?;
        let before = if self.hosts.contains(',') {
            "localhost"
        } else {
            self.hosts
        };
        let mut all = Vec::with_capacity(hosts.len());
        for (place, host) in hosts.iter().enumerate() {
            if host.is_empty() {
                return Err(UrlError::EmptyHost(place + 1));
            }
            let mut more = vec![format!("host={host}")];
            let port = ports.get(place).or(ports.first());
            more.extend(port.map(|port| format!("port={port}")));
            all.push(self.address(before, &more));
        }
        Ok(all)
    }

    /// The ports of the query: none, one for all, or one each.
    fn ports(&mut self, hosts: usize) -> Result<Vec<String>, UrlError> {
        let listed = self.take("port").unwrap_or_default();
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let listed = listed.replace("%2C", ",").replace("%2c", ",");
        let ports: Vec<String> = listed.split(',').map(str::to_owned).collect();
        if ports.len() > 1 && ports.len() != hosts {
            let ports = ports.len();
            return Err(UrlError::Ports { hosts, ports });
        }
        Ok(ports)
    }

    fn address(&self, host: &str, more: &[String]) -> String {
        let Self {
            scheme, user, path, ..
        } = self;
        let mut url = format!("{scheme}://{user}{host}{path}");
        let known = self.query.iter().copied();
        let pairs = known.chain(more.iter().map(String::as_str));
        for (place, pair) in pairs.enumerate() {
            url.push(if place == 0 { '?' } else { '&' });
            url.push_str(pair);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(url: &str) -> Vec<String> {
        let (hosts, _) = parse(url).unwrap();
        hosts.into_iter().map(|host| host.name).collect()
    }

    #[test]
    fn hosts_are_listed_as_libpq_lists_them() {
        for (url, expected) in [
            ("postgres://u:p@db/tenure", vec!["db:5432"]),
            (
                "postgresql://u:p%40@a:1,b,[::1]:3/tenure?target_session_attrs=read-write",
                vec!["a:1", "b:5432", "[::1]:3"],
            ),
            ("postgres://u@a,b/tenure?port=7", vec!["a:7", "b:7"]),
            ("postgres://u@a,b/tenure?port=7%2C8", vec!["a:7", "b:8"]),
            (
                "postgres://u@localhost:5432/t?host=%2Fx%2Fa,%2Fx%2Fb&sslmode=disable",
                vec!["/x/a", "/x/b"],
            ),
            ("postgres:///t?host=a,b&port=1,2", vec!["a:1", "b:2"]),
        ] {
            assert_eq!(names(url), expected, "{url}");
        }
    }

    #[test]
    fn each_host_has_login_database_and_parameters() {
        let (hosts, needs) = parse("postgres://me:secret@a,b/t?sslmode=require").unwrap();
        assert_eq!(needs, Needs::Writes);
        for host in hosts {
            assert_eq!(host.options.get_username(), "me");
            assert_eq!(host.options.get_database(), Some("t"));
            assert!(format!("{:?}", host.options.get_ssl_mode()).contains("Require"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_no_password_is_quoted() {
        for (url, expected) in [
            ("mysql://u:secret@a/t", UrlError::NotPostgres),
            ("host=a,b", UrlError::NotPostgres),
            ("postgres://u:secret@a,,b/t", UrlError::EmptyHost(2)),
            (
                "postgres://u:secret@a,b,c/t?port=1,2",
                UrlError::Ports { hosts: 3, ports: 2 },
            ),
            (
                "postgres://u:secret@a,b/t?target_session_attrs=standby",
                UrlError::Target("standby".to_owned()),
            ),
        ] {
            assert_eq!(parse(url).unwrap_err(), expected, "{url}");
        }
        let bad = parse("postgres://u:secret@a,b:notaport/t").unwrap_err();
        assert!(matches!(bad, UrlError::Malformed { host: 2, .. }), "{bad}");
        assert!(!bad.to_string().contains("secret"), "{bad}");
    }

    #[test]
    fn a_reader_takes_any_host() {
        let (_, needs) = parse("postgres://u@a,b/t?target_session_attrs=any").unwrap();
        assert_eq!(needs, Needs::Reads);
    }
}
