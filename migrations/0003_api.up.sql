-- The counter: tokens, and what was answered under which idempotency key. Control tables.

create table app.token (
  token_id uuid primary key,
  name text not null check (length(name) between 1 and 100),
  digest bytea not null unique check (length(digest) = 32),
  role text not null check (role in ('viewer', 'support', 'operator', 'admin')),
  tenant_id uuid,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  constraint token_expires_later check (expires_at > created_at)
);
comment on table app.token is 'API tokens; only the digest of a token is kept.';
comment on column app.token.token_id is 'Identity.';
comment on column app.token.name is 'Who or what holds it; the actor of its acts.';
comment on column app.token.digest is 'SHA-256 of the token.';
comment on column app.token.role is 'What it may do: viewer, support, operator, admin, each what the one before may.';
comment on column app.token.tenant_id is 'The one tenant that it sees; null sees all.';
comment on column app.token.created_at is 'When it was made.';
comment on column app.token.expires_at is 'When it ends.';
comment on column app.token.revoked_at is 'When it was taken back.';

create table app.idempotency (
  token_id uuid not null,
  method_path text not null,
  key text not null,
  fingerprint bytea not null check (length(fingerprint) = 32),
  status integer not null check (status between 200 and 299),
  body bytea not null,
  created_at timestamptz not null,
  primary key (token_id, method_path, key)
);
create index idempotency_age on app.idempotency (created_at);
comment on table app.idempotency is 'Answers by idempotency key, committed with their effects.';
comment on column app.idempotency.token_id is 'Whose key it is.';
comment on column app.idempotency.method_path is 'Method and path of the request.';
comment on column app.idempotency.key is 'The Idempotency-Key header.';
comment on column app.idempotency.fingerprint is 'SHA-256 of the request''s body.';
comment on column app.idempotency.status is 'The status that was answered.';
comment on column app.idempotency.body is 'The body that was answered.';
comment on column app.idempotency.created_at is 'When; answers are kept for seven days.';

grant select, insert, update, delete on app.token, app.idempotency to tenure_control;
