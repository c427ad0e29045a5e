//! `tenure notice`: mails, through the API.

use tenure_client::NoticePreviewFilter;

use super::run::{ApiArgs, print};

/// What to do with mails.
#[derive(Debug, clap::Subcommand)]
pub(super) enum NoticeCommand {
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
    let NoticeCommand::Preview {
        api,
        kind,
        locale,
        html,
    } = command;
    let filter = NoticePreviewFilter {
        kind,
        locale: Some(locale),
    };
    let preview = api.client()?.preview_notice(&filter).await?;
    print(&api, &preview, || {
        if html {
            println!("{}", preview.html);
        } else {
            print!("{}\n\n{}", preview.subject, preview.text);
        }
    })
}
