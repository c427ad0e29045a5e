//! The keys that seal a tenant's payloads.

use super::{Deed, Preview};
use crate::event::{Act, KeysAct};
use crate::form::{Arg, Form, Kind};
use crate::subject::{Needs, Offer, Subject, Target};
use tenure_client::{DataKey, DestroyKeys, Role, RotateKey, Whoami};
use uuid::Uuid;

const ROTATE: &str = "rotate-key";
const DESTROY: &str = "destroy-keys";
const REWRAP: &str = "rewrap-keys";
const NEEDS: Needs = Needs::all(Role::Admin);

/// What can be done to a tenant's keys.
pub(crate) fn offers(who: &Whoami, tenant_id: Uuid, name: &str, keys: &[DataKey]) -> Vec<Offer> {
    let subject = Subject::new(
        Target::Keys(tenant_id, keys.len()),
        format!("keys of {name}"),
    );
    let rotate = Form::new(
        ROTATE,
        "Makes a new version of the key. It seals two minutes later; older ones go on opening.",
        Vec::new(),
    );
    let destroy = Form::new(
        DESTROY,
        "Destroys all versions of the key: nothing that they sealed can be read any more.",
        vec![Arg::needed(
            "tenant_name",
            Kind::Exactly(name.trim().to_owned()),
        )],
    );
    // It is done to all at once, so that it is to be said that this is meant.
    let rewrap = Form::new(
        REWRAP,
        "Wraps the keys of all tenants anew that an older master key wraps.",
        vec![Arg::needed(
            "of_whom",
            Kind::Exactly("all tenants".to_owned()),
        )],
    );
    let all = Subject::new(Target::AllKeys, "keys of all tenants");
    let gone = keys.iter().all(|key| key.destroyed_at.is_some());
    vec![
        Offer::of_role(rotate, &subject, who, NEEDS),
        Offer::of_role(destroy, &subject, who, NEEDS).unless(gone, "it has no keys"),
        Offer::of_role(rewrap, &all, who, NEEDS),
    ]
}

pub(super) fn act(deed: &Deed<'_>, tenant_id: Uuid) -> Result<Act, String> {
    let reason = deed.why();
    let act = match deed.verb {
        ROTATE => KeysAct::Rotate(RotateKey { reason }),
        DESTROY => KeysAct::Destroy(DestroyKeys { reason }),
        _ => return Err(deed.unknown()),
    };
    Ok(Act::Keys { tenant_id, act })
}

pub(super) fn preview(deed: &Deed<'_>, versions: usize) -> Preview {
    if deed.verb == ROTATE {
        return Preview::words([
            format!(
                "Version {} is made, and seals two minutes later.",
                versions + 1
            ),
            "What older versions sealed can still be read.".to_owned(),
        ]);
    }
    Preview::words([
        "Nothing that was sealed for this tenant can be read ever again, in backups either.",
        "The server refuses it while runs have not ended or a legal hold stands.",
        "There is no way back.",
    ])
}

pub(super) fn preview_rewrap() -> Preview {
    Preview::words([
        "Each key that another master key than the current one wraps is wrapped anew.",
        "What they sealed stays as it is, and can be read all along.",
        "Once it is done, the old master key can go.",
    ])
}
