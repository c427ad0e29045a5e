//! Everything that the API does about runs, tenants and their money has a command: a table of routes
//! and command lines, held against the API's description on one side and against what the program
//! really asks for on the other.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::process::tenure;

/// The parts of the description that are about runs, tenants and their money.
const TAGS: [&str; 15] = [
    "Audit",
    "Catalogue",
    "Dunning",
    "Entitlements",
    "Flow",
    "Holds",
    "Invoices",
    "Keys",
    "Mails",
    "Retention",
    "Runs",
    "Schedules",
    "Subscriptions",
    "Tenants",
    "Test clocks",
];
const T: &str = "01a209f6-4762-727e-b736-2430e0a79587";
const X: &str = "01a209f6-4762-727e-b736-2430e0a79588";

/// A route and a command line that asks for it. `T` stands for a tenant, `X` for what is its.
#[rustfmt::skip] // A table is read by its columns.
const TABLE: &[(&str, &str)] = &[
    ("GET /v1/plans", "catalog plans"),
    ("GET /v1/plans/{plan}/versions", "catalog plans team-monthly"),
    ("GET /v1/catalog", "catalog show"),
    ("POST /v1/catalog", "catalog load fixtures/seed/catalog.json --reason r"),
    ("GET /v1/tenants", "tenant list --q acme"),
    ("POST /v1/tenants", "tenant create Acme --email a@acme.example"),
    ("GET /v1/tenants/{tenant_id}", "tenant show T"),
    ("POST /v1/tenants/{tenant_id}/payment-methods", "tenant attach T pm_card_visa"),
    ("GET /v1/tenants/{tenant_id}/payment-methods", "tenant methods list T"),
    ("POST /v1/tenants/{tenant_id}/payment-methods", "tenant methods add T pm_card_visa --position 2"),
    ("PUT /v1/tenants/{tenant_id}/payment-methods", "tenant methods order T pm_2 pm_1"),
    ("DELETE /v1/tenants/{tenant_id}/payment-methods/{method}", "tenant methods remove T pm_1"),
    ("POST /v1/tenants/{tenant_id}/zone", "tenant zone T Asia/Tokyo --reason r"),
    ("POST /v1/tenants/{tenant_id}/legal-entity", "tenant legal-entity T de --reason r"),
    ("GET /v1/tenants/{tenant_id}/holds", "tenant hold list T"),
    ("POST /v1/tenants/{tenant_id}/holds", "tenant hold place T --kind fraud --reason r"),
    ("POST /v1/tenants/{tenant_id}/holds/{hold_id}/lift", "tenant hold lift T X --reason r"),
    ("GET /v1/tenants/{tenant_id}/debt", "tenant debt T"),
    ("GET /v1/tenants/{tenant_id}/dunning-exemptions", "tenant exempt list T"),
    ("POST /v1/tenants/{tenant_id}/dunning-exemptions", "tenant exempt grant T --until 2027-01-31T09:00:00Z --reason r"),
    ("POST /v1/tenants/{tenant_id}/dunning-exemptions/{exemption_id}/lift", "tenant exempt lift T X --reason r"),
    ("GET /v1/dunning-policies", "dunning-policy list"),
    ("PUT /v1/dunning-policies/{policy}", "dunning-policy load p POLICY --reason r"),
    ("GET /v1/dunning-assignments", "dunning-policy list"),
    ("PUT /v1/dunning-assignments", "dunning-policy assign p --default --reason r"),
    ("GET /v1/tenants/{tenant_id}/subscriptions", "subscription list --tenant T"),
    ("POST /v1/tenants/{tenant_id}/subscriptions", "subscription create --tenant T --plan p --currency EUR"),
    ("POST /v1/tenants/{tenant_id}/subscriptions", "subscription create --tenant T --plan p --currency EUR --dry-run"),
    ("GET /v1/tenants/{tenant_id}/subscriptions/{subscription_id}", "subscription show --tenant T X"),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/change", "subscription change --tenant T X --plan p --dry-run"),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/cancel", "subscription cancel --tenant T X --credit refund --reason r"),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/pause", "subscription pause --tenant T X"),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/resume", "subscription resume --tenant T X"),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/move-anchor", "subscription move-anchor --tenant T X --day 5"),
    ("POST /v1/tenants/{tenant_id}/subscriptions/{subscription_id}/undo", "subscription undo --tenant T X cancel --reason r"),
    ("GET /v1/tenants/{tenant_id}/entitlements", "tenant entitlements T"),
    ("GET /v1/tenants/{tenant_id}/entitlements/{feature}", "tenant entitlements T sso"),
    ("GET /v1/tenants/{tenant_id}/overrides", "tenant override list T"),
    ("PUT /v1/tenants/{tenant_id}/overrides/{feature}", "tenant override set T sso true --reason r"),
    ("DELETE /v1/tenants/{tenant_id}/overrides/{feature}", "tenant override clear T sso --reason r"),
    ("GET /v1/tenants/{tenant_id}/usage", "tenant usage list T"),
    ("PUT /v1/tenants/{tenant_id}/usage/{feature}", "tenant usage report T projects 8"),
    ("GET /v1/tenants/{tenant_id}/invoices", "invoice list --tenant T"),
    ("GET /v1/tenants/{tenant_id}/invoices/{invoice_id}", "invoice show --tenant T X"),
    ("GET /v1/tenants/{tenant_id}/invoices/{invoice_id}/html", "invoice page --tenant T X"),
    ("POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/credit-notes", "invoice credit-note --tenant T X --reason r --dry-run"),
    ("POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/credit-notes", "invoice refund --tenant T X --reason r"),
    ("POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/{verb}", "invoice collect --tenant T X --reason r"),
    ("POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/{verb}", "invoice void --tenant T X --reason r --dry-run"),
    ("POST /v1/tenants/{tenant_id}/invoices/{invoice_id}/{verb}", "invoice write-off --tenant T X --reason r"),
    ("GET /v1/tenants/{tenant_id}/credit-notes", "invoice credit-notes --tenant T"),
    ("GET /v1/tenants/{tenant_id}/disputes", "invoice disputes --tenant T"),
    ("GET /v1/tenants/{tenant_id}/credit", "tenant credit show T"),
    ("POST /v1/tenants/{tenant_id}/credit", "tenant credit grant T 5.00 EUR --reason r --dry-run"),
    ("GET /v1/tenants/{tenant_id}/tax", "tenant tax show T"),
    ("PUT /v1/tenants/{tenant_id}/tax", "tenant tax set T VAT 19 --reason r"),
    ("PUT /v1/tenants/{tenant_id}/tax", "tenant tax clear T --reason r"),
    ("GET /v1/mails", "notice list"),
    ("GET /v1/tenants/{tenant_id}/mails", "notice list --tenant T"),
    ("GET /v1/tenants/{tenant_id}/mails/{notice_id}", "notice show --tenant T X"),
    ("GET /v1/notices/preview", "notice preview receipt"),
    ("GET /v1/workflows", "workflow list"),
    ("GET /v1/runs", "run list --filter status:stuck"),
    ("POST /v1/runs", "run start notice --tenant T --key k --batch 2"),
    ("GET /v1/runs/count", "run count"),
    ("GET /v1/runs/{run_id}", "run show X"),
    ("GET /v1/runs/{run_id}/transitions", "run transitions X"),
    ("GET /v1/runs/{run_id}/steps", "run steps X"),
    ("GET /v1/runs/{run_id}/signals", "run signals X"),
    ("POST /v1/runs/{run_id}/signals", "run signal X null --reason r"),
    ("POST /v1/runs/{run_id}/actions/{verb}", "run act pause X --revision 1 --reason r"),
    ("POST /v1/runs/{run_id}/reveal", "run reveal X /data/Open/email --reason r"),
    ("GET /v1/limits", "flow limits"),
    ("POST /v1/limits/{name}/actions/set", "flow set-limit stripe-charges --concurrency 5 --reason r"),
    ("GET /v1/pauses", "flow pauses"),
    ("POST /v1/pauses", "flow pause queue mails --reason r"),
    ("POST /v1/pauses/actions/lift", "flow lift queue mails --reason r"),
    ("GET /v1/breakers", "flow breakers"),
    ("POST /v1/breakers/{name}/actions/open", "flow open-breaker stripe --reason r"),
    ("POST /v1/breakers/{name}/actions/close", "flow close-breaker stripe --reason r"),
    ("GET /v1/weights", "flow weights"),
    ("POST /v1/weights", "flow set-weight T 3 --reason r"),
    ("GET /v1/schedules", "schedule list"),
    ("POST /v1/schedules", "schedule create nightly --tenant T --workflow notice --cron DAILY --reason r"),
    ("GET /v1/schedules/{schedule_id}", "schedule show X"),
    ("PATCH /v1/schedules/{schedule_id}", "schedule update X --revision 1 --jitter-seconds 5 --reason r"),
    ("POST /v1/schedules/{schedule_id}/actions/pause", "schedule pause X --revision 1 --reason r"),
    ("POST /v1/schedules/{schedule_id}/actions/resume", "schedule resume X --revision 1 --reason r"),
    ("POST /v1/schedules/{schedule_id}/actions/run-now", "schedule run-now X --revision 1 --reason r"),
    ("DELETE /v1/schedules/{schedule_id}", "schedule delete X --revision 1 --reason r"),
    ("GET /v1/retention", "retention list"),
    ("PUT /v1/retention/{workflow}", "retention set notice --drop-after 30 --reason r"),
    ("GET /v1/legal-holds", "retention holds"),
    ("POST /v1/legal-holds", "retention hold --tenant T --reason r"),
    ("DELETE /v1/legal-holds/{hold_id}", "retention lift X --reason r"),
    ("GET /v1/tenants/{tenant_id}/keys", "key list T"),
    ("POST /v1/tenants/{tenant_id}/keys", "key rotate T --reason r"),
    ("DELETE /v1/tenants/{tenant_id}/keys", "key destroy T --confirm T --reason r"),
    ("POST /v1/keys/actions/rewrap", "key rewrap --reason r"),
    ("GET /v1/bulk-verbs", "bulk verbs"),
    ("GET /v1/bulk-operations", "bulk list"),
    ("POST /v1/bulk-operations", "bulk prepare pause --filter status:stuck --reason r"),
    ("GET /v1/bulk-operations/{bulk_operation_id}", "bulk show X"),
    ("GET /v1/bulk-operations/{bulk_operation_id}/results", "bulk results X"),
    ("POST /v1/bulk-operations/{bulk_operation_id}/confirm", "bulk confirm X --runs 1 --reason r"),
    ("POST /v1/bulk-operations/{bulk_operation_id}/abort", "bulk abort X --reason r"),
    ("GET /v1/audit", "audit list --tenant T --action retry"),
    ("GET /v1/test-clocks/{test_clock_id}", "test-clock show X"),
    ("POST /v1/test-clocks/{test_clock_id}/advance", "test-clock advance X --by 1d"),
];

/// Every route of the description that is about runs, tenants and their money.
fn described() -> Vec<String> {
    let document: Value = serde_json::from_str(&tenure_api::openapi().to_json().unwrap()).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let tag = operation["tags"][0].as_str().unwrap_or_default();
            if TAGS.contains(&tag) {
                routes.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    routes
}

#[test]
fn every_route_about_runs_tenants_and_money_has_a_command() {
    let known: Vec<&str> = TABLE.iter().map(|(route, _)| *route).collect();
    let described = described();
    let without: Vec<&String> = described
        .iter()
        .filter(|route| !known.contains(&route.as_str()))
        .collect();
    assert!(without.is_empty(), "no command asks for {without:?}");
    let gone: Vec<&&str> = known
        .iter()
        .filter(|route| !described.iter().any(|one| one == **route))
        .collect();
    assert!(gone.is_empty(), "the API has no {gone:?}");
}

/// A server that notes what it is asked for and refuses all of it.
struct Listener {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                refuse(stream.unwrap(), &noted);
            }
        });
        Self { url, heard }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

/// Reads one request, notes its method and path, and says that there is nothing.
fn refuse(stream: TcpStream, heard: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let path = target.split('?').next().unwrap();
    heard.lock().unwrap().push(format!("{method} {path}"));
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let problem = r#"{"type":"x","title":"Refused","status":404,"code":"not_found"}"#;
    let head = format!(
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        problem.len()
    );
    let answer = [head.as_bytes(), problem.as_bytes()].concat();
    let _ = reader.get_mut().write_all(&answer);
}

/// Whether a path is one of a template.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), path.split('/').collect());
    let pairs = template.iter().zip(&path);
    template.len() == path.len()
        && pairs
            .into_iter()
            .all(|(one, two)| one.starts_with('{') || one == two)
}

#[test]
fn every_command_asks_for_its_route() {
    let listener = Listener::open();
    let root = env!("CARGO_MANIFEST_DIR");
    let policy = std::env::temp_dir().join(format!("tenure-policy-{}.json", std::process::id()));
    let document = r#"{"ladders": {"soft": {"days": [1]}}, "steps": [], "end": {"day": 9, "action": "cancel"}}"#;
    std::fs::write(&policy, document).unwrap();
    let mut wrong = BTreeMap::new();
    for (route, line) in TABLE {
        let args = line.split_whitespace().map(|word| match word {
            "T" => T.to_owned(),
            "X" => X.to_owned(),
            "POLICY" => policy.to_str().unwrap().to_owned(),
            "DAILY" => "0 9 * * *".to_owned(),
            word => word.to_owned(),
        });
        let run = Command::new(tenure())
            .args(args)
            .args(["--url", &listener.url, "--token", "tenure_sk_x"])
            .current_dir(root)
            .output()
            .unwrap();
        let asked = listener.take();
        let is_it = |one: &String| {
            let (method, path) = one.split_once(' ').unwrap();
            let (wanted, template) = route.split_once(' ').unwrap();
            method == wanted && fits(template, path)
        };
        // Some commands ask for more than one thing, and this server refuses the first.
        let other = *route == "GET /v1/dunning-assignments";
        if !asked.iter().any(is_it) && !other {
            let told = String::from_utf8_lossy(&run.stderr).into_owned();
            wrong.insert(*line, (asked, told));
        }
    }
    std::fs::remove_file(&policy).unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
