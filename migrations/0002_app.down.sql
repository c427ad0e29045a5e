-- Takes the business away.
drop schema app cascade;
