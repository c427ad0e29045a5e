-- The role stays: other databases of the cluster may use it.
drop function engine.ring();
drop function engine.send_signal(uuid, text, text, text, jsonb);
drop function engine.send_signal(uuid, uuid, text, jsonb);
drop function engine.start_run(uuid, text, text, jsonb);
drop function engine.canonical_json(jsonb);
drop function engine.new_id(smallint);
revoke usage on schema engine from tenure_client;
