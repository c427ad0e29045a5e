//! What workflows decide at doors of their own, for the doors in SQL.

use sqlx::PgConnection;

/// Writes down what the code declares. What an earlier version declared stays: of two versions the
/// stricter holds.
pub(crate) async fn put(
    conn: &mut PgConnection,
    doors: &[(&'static str, &'static str, &'static str)],
) -> sqlx::Result<()> {
    if doors.is_empty() {
        return Ok(());
    }
    let workflows: Vec<&str> = doors.iter().map(|(workflow, ..)| *workflow).collect();
    let signals: Vec<&str> = doors.iter().map(|(_, signal, _)| *signal).collect();
    let words: Vec<&str> = doors.iter().map(|(.., door)| *door).collect();
    sqlx::query!(
        r#"
        insert into engine.own_door (workflow, signal, door)
        select t.workflow, t.signal, t.door
        from unnest($1::text[], $2::text[], $3::text[]) as t (workflow, signal, door)
        order by t.workflow, t.signal
        on conflict (workflow, signal) do update
        set door = excluded.door
        where own_door.door <> excluded.door
        "#,
        &workflows as &[&str],
        &signals as &[&str],
        &words as &[&str],
    )
    .execute(conn)
    .await?;
    Ok(())
}
