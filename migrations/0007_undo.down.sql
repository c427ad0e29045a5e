alter table engine.run drop column undo;
