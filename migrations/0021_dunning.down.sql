drop index app.payment_by_method;
drop index app.invoice_by_subscription;
alter table app.customer drop column method_expires_on;
update app.debt set state = 'past_due' where state in ('grace', 'suspended');
alter table app.debt
  drop constraint debt_state_check,
  add constraint debt_state_check check (state in ('clear', 'past_due', 'exhausted')),
  drop column step,
  drop column policy,
  drop column policy_version,
  drop column next_step,
  drop column next_step_at,
  drop column ends_at;
comment on column app.debt.state is 'clear, past_due, or exhausted when the ladder has ended.';
drop table app.dunning_exemption, app.dunning_assignment, app.dunning_policy;
