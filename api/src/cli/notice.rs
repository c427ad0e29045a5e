//! `tenure notice`: mails, through the API.

use tenure_client::{Mail, MailFilter, MailStatus, NoticePreviewFilter};
use uuid::Uuid;

use super::run::{ApiArgs, print, rfc3339};

/// What to do with mails.
#[derive(Debug, clap::Subcommand)]
pub(super) enum NoticeCommand {
    /// List the mails that were written, newest first, as they were sent or why they were not.
    List {
        #[command(flatten)]
        api: ApiArgs,
        /// To this tenant only.
        #[arg(long)]
        tenant: Option<Uuid>,
        /// Print what they say, too.
        #[arg(long)]
        text: bool,
        /// Where the last page ended; not with a tenant.
        #[arg(long, conflicts_with = "tenant")]
        cursor: Option<String>,
    },
    /// Print a mail to a tenant as it was sent.
    Show {
        #[command(flatten)]
        api: ApiArgs,
        /// The tenant.
        #[arg(long)]
        tenant: Uuid,
        /// The mail.
        notice: Uuid,
        /// Print the HTML part instead of the text.
        #[arg(long)]
        html: bool,
    },
    /// Print a mail of a kind with made-up facts, as it would be sent.
    Preview {
        #[command(flatten)]
        api: ApiArgs,
        /// Which mail, such as receipt.
        kind: String,
        /// Its language, such as de; English where there is no other.
        #[arg(long, default_value = "en")]
        locale: String,
        /// Print the HTML part instead of the text.
        #[arg(long)]
        html: bool,
    },
}

pub(super) async fn run(command: NoticeCommand) -> anyhow::Result<()> {
    let (api, kind, locale, html) = match command {
        NoticeCommand::List {
            api,
            tenant,
            text,
            cursor,
        } => return list(&api, tenant, text, cursor).await,
        NoticeCommand::Show {
            api,
            tenant,
            notice,
            html,
        } => {
            let kept = api.client()?.mail(tenant, notice).await?;
            return print(&api, &kept, || {
                if html {
                    outln!("{}", kept.body_html);
                } else {
                    tell(&kept.mail, true);
                    outln!("told once as {}", kept.dedupe_key);
                }
            });
        }
        NoticeCommand::Preview {
            api,
            kind,
            locale,
            html,
        } => (api, kind, locale, html),
    };
    let filter = NoticePreviewFilter {
        kind,
        locale: Some(locale),
    };
    let preview = api.client()?.preview_notice(&filter).await?;
    print(&api, &preview, || {
        if html {
            outln!("{}", preview.html);
        } else {
            out!("{}\n\n{}", preview.subject, preview.text);
        }
    })
}

async fn list(
    api: &ApiArgs,
    tenant: Option<Uuid>,
    text: bool,
    cursor: Option<String>,
) -> anyhow::Result<()> {
    let client = api.client()?;
    if let Some(tenant) = tenant {
        let mails = client.list_tenant_mails(tenant).await?;
        return print(api, &mails, || {
            mails.iter().for_each(|mail| tell(mail, text))
        });
    }
    let filter = MailFilter {
        cursor,
        limit: None,
    };
    let page = client.list_mails(&filter).await?;
    print(api, &page, || {
        page.items.iter().for_each(|mail| tell(mail, text));
        if let Some(cursor) = &page.next_cursor {
            eprintln!("There may be more: --cursor {cursor}");
        }
    })
}

fn tell(mail: &Mail, text: bool) {
    let status = match (mail.status, mail.sent_at) {
        (MailStatus::Sent, Some(at)) => format!("sent {}", rfc3339(at)),
        (MailStatus::Suppressed, _) => "suppressed".to_owned(),
        _ => "queued".to_owned(),
    };
    let (id, kind, to) = (mail.notice_id, &mail.kind, &mail.to);
    outln!("{id}  {status}  {kind}  to {to}  {}", mail.subject);
    if text {
        for line in mail.body_text.lines() {
            outln!("    {line}");
        }
    }
}
