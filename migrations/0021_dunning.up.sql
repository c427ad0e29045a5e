-- Dunning as data: policies with their versions, who goes by which, and who is exempt for a while.

create table app.dunning_policy (
  policy text not null check (policy ~ '^[a-z0-9-]{1,60}$'),
  version integer not null check (version > 0),
  document jsonb not null,
  author text not null,
  reason text not null check (length(reason) between 1 and 2000),
  loaded_at timestamptz not null,
  primary key (policy, version)
);
comment on table app.dunning_policy is
  'Versions of dunning policies. A control table; a debt goes by the newest version at each look.';
comment on column app.dunning_policy.policy is 'Its key.';
comment on column app.dunning_policy.version is 'Counts from 1.';
comment on column app.dunning_policy.document is 'The policy, checked when it was loaded.';
comment on column app.dunning_policy.author is 'Who loaded it.';
comment on column app.dunning_policy.reason is 'Why, in their words.';
comment on column app.dunning_policy.loaded_at is 'When, in real time.';

create table app.dunning_assignment (
  scope text not null check (scope in ('default', 'plan', 'tenant')),
  subject text not null,
  policy text not null,
  author text not null,
  reason text not null check (length(reason) between 1 and 2000),
  assigned_at timestamptz not null,
  primary key (scope, subject),
  constraint dunning_assignment_default check ((scope = 'default') = (subject = ''))
);
comment on table app.dunning_assignment is
  'Who goes by which policy: a tenant''s own comes first, then that of the plan of the oldest unpaid invoice, then the default, then the one that is built in.';
comment on column app.dunning_assignment.scope is 'default, plan or tenant.';
comment on column app.dunning_assignment.subject is 'The plan''s key or the tenant''s id; empty for the default.';
comment on column app.dunning_assignment.policy is 'The policy''s key.';
comment on column app.dunning_assignment.author is 'Who assigned it.';
comment on column app.dunning_assignment.reason is 'Why, in their words.';
comment on column app.dunning_assignment.assigned_at is 'When, in real time.';

alter table app.dunning_assignment enable row level security;
alter table app.dunning_assignment force row level security;
create policy control_all on app.dunning_assignment to tenure_control using (true) with check (true);
create policy tenant_own on app.dunning_assignment for select to tenure_tenant
  using (scope <> 'tenant' or subject = engine.current_tenant()::text);
grant select, insert on app.dunning_policy to tenure_control;
grant select, insert, update, delete on app.dunning_assignment to tenure_control;
grant select on app.dunning_policy, app.dunning_assignment to tenure_tenant;

create table app.dunning_exemption (
  exemption_id uuid not null,
  shard_id smallint not null check (shard_id between 0 and 1023),
  tenant_id uuid not null,
  currency text,
  ends_at timestamptz not null,
  reason text not null check (length(reason) between 1 and 2000),
  author text not null,
  placed_at timestamptz not null,
  lifted_at timestamptz,
  lifted_by text,
  lift_reason text check (length(lift_reason) between 1 and 2000),
  primary key (exemption_id, shard_id),
  constraint dunning_exemption_forward check (ends_at > placed_at),
  constraint dunning_exemption_lifted_whole check (
    (lifted_at is null) = (lifted_by is null) and (lifted_at is null) = (lift_reason is null))
);
create index dunning_exemption_standing on app.dunning_exemption (tenant_id, shard_id)
  where lifted_at is null;
comment on table app.dunning_exemption is
  'For how long support spares a tenant the steps and the end of dunning. Attempts go on.';
comment on column app.dunning_exemption.exemption_id is 'Identity.';
comment on column app.dunning_exemption.shard_id is 'The tenant''s shard.';
comment on column app.dunning_exemption.tenant_id is 'The tenant.';
comment on column app.dunning_exemption.currency is 'Of what is owed in this currency; null for all.';
comment on column app.dunning_exemption.ends_at is 'Until when, exclusive, in the tenant''s time.';
comment on column app.dunning_exemption.reason is 'Why, in the author''s words.';
comment on column app.dunning_exemption.author is 'Who granted it, from the token.';
comment on column app.dunning_exemption.placed_at is 'When, in the tenant''s time.';
comment on column app.dunning_exemption.lifted_at is 'When it was taken back, in the tenant''s time.';
comment on column app.dunning_exemption.lifted_by is 'Who took it back.';
comment on column app.dunning_exemption.lift_reason is 'Why, in their words.';
alter table app.dunning_exemption enable row level security;
alter table app.dunning_exemption force row level security;
create policy tenant_own on app.dunning_exemption to tenure_tenant
  using (tenant_id = engine.current_tenant()) with check (tenant_id = engine.current_tenant());
grant select, insert, update on app.dunning_exemption to tenure_tenant;

alter table app.debt
  drop constraint debt_state_check,
  add constraint debt_state_check
    check (state in ('clear', 'past_due', 'grace', 'suspended', 'exhausted')),
  add column step text,
  add column policy text,
  add column policy_version integer,
  add column next_step text,
  add column next_step_at timestamptz,
  add column ends_at timestamptz;
comment on column app.debt.state is
  'clear, past_due, grace, suspended, or exhausted when the ladder has ended.';
comment on column app.debt.step is 'The policy''s step that holds, if one does.';
comment on column app.debt.policy is 'The policy that it went by at the last look; null for the one that is built in.';
comment on column app.debt.policy_version is 'Its version then.';
comment on column app.debt.next_step is 'The policy''s step that comes next, if nothing is paid.';
comment on column app.debt.next_step_at is 'When it comes.';
comment on column app.debt.ends_at is 'When the ladder ends, if nothing is paid.';

alter table app.customer add column method_expires_on date;
comment on column app.customer.method_expires_on is 'The last day on which the method can be charged, if it is a card.';
create index payment_by_method on app.payment (tenant_id, method_id, sent_at, shard_id);
create index invoice_by_subscription on app.invoice (subscription_id, shard_id) where status = 'open';
