//! Mail: over SMTP through `lettre`, or captured as files.
//!
//! A mail's Message-ID is made from its notice, so that a repeat after a crash is the same mail to
//! every server and reader that looks at it, and the same file when captured.

use std::path::PathBuf;

use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{AsyncTransport as _, Message, Tokio1Executor};
use metrics::counter;
use tenure_engine::StepError;

/// Where mails go.
#[derive(Debug, Clone)]
pub enum MailConfig {
    /// To a server, such as `smtps://user:password@mail.example:465`.
    Smtp {
        /// The server's address.
        url: String,
        /// The sender.
        from: String,
    },
    /// Into a folder, one `.eml` file a mail.
    Capture {
        /// The folder.
        folder: PathBuf,
        /// The sender.
        from: String,
    },
}

/// The adapter.
#[derive(Clone)]
pub struct Mailer {
    from: Mailbox,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Capture(PathBuf),
}

/// One mail.
#[derive(Debug, Clone)]
pub struct Mail<'a> {
    /// The notice: names the mail for ever.
    pub id: String,
    /// The recipient.
    pub to: &'a str,
    /// The subject line.
    pub subject: &'a str,
    /// The text part.
    pub text: &'a str,
    /// The HTML part.
    pub html: &'a str,
}

impl Mailer {
    /// An adapter for the configured way.
    ///
    /// # Errors
    /// When the server's or the sender's address is malformed, or the folder cannot be made.
    pub fn new(config: &MailConfig) -> Result<Self, String> {
        let (from, way) = match config {
            MailConfig::Smtp { url, from } => {
                let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
                    .map_err(|error| format!("the SMTP address is malformed: {error}"))?
                    .build();
                (from, Way::Smtp(transport))
            }
            MailConfig::Capture { folder, from } => {
                std::fs::create_dir_all(folder)
                    .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
                (from, Way::Capture(folder.clone()))
            }
        };
        let from = from
            .parse()
            .map_err(|error| format!("the sender {from:?} is malformed: {error}"))?;
        Ok(Self { from, way })
    }

    /// Hands a mail over. Handing the same one over twice is harmless.
    ///
    /// # Errors
    /// Terminal when the recipient is malformed or refused for good (5xx); otherwise retryable.
    pub async fn send(&self, mail: &Mail<'_>) -> Result<(), StepError> {
        let sent = self.hand_over(mail).await;
        let outcome = match &sent {
            Ok(()) => "sent",
            Err(error) if error.is_terminal() => "refused",
            Err(_) => "failed",
        };
        counter!("tenure_mails_total", "outcome" => outcome).increment(1);
        sent
    }

    async fn hand_over(&self, mail: &Mail<'_>) -> Result<(), StepError> {
        let to: Mailbox = mail
            .to
            .parse()
            .map_err(|_| StepError::terminal("bad_recipient", "the address is malformed"))?;
        let host = self.from.email.domain();
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .message_id(Some(format!("<{}@{host}>", mail.id)))
            .subject(mail.subject)
            .multipart(MultiPart::alternative_plain_html(
                mail.text.to_owned(),
                mail.html.to_owned(),
            ))
            .map_err(|error| StepError::terminal("bad_mail", error))?;
        match &self.way {
            Way::Smtp(transport) => match transport.send(message).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_permanent() => Err(StepError::terminal(
                    "mail_refused",
                    "the server refused it for good",
                )),
                Err(error) => Err(StepError::retryable("mail_unreachable", error)),
            },
            Way::Capture(folder) => {
                let done = folder.join(format!("{}.eml", mail.id));
                let new = folder.join(format!(".{}.new", mail.id));
                tokio::fs::write(&new, message.formatted()).await?;
                tokio::fs::rename(&new, &done).await?;
                Ok(())
            }
        }
    }
}
