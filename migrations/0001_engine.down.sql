-- Takes the engine away. Roles stay: other databases of the cluster may use them.
drop schema engine cascade;
