alter table engine.run drop column begun;
