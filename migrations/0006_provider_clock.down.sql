alter table app.customer drop column provider_clock_id;
