//! AimDB's client library, unchanged, against a running daemon: `aimdb-peer SOCKET RECORDS`.
//!
//! The daemon holds RECORDS records `list.0`, `list.1` and so on, and `temp.vienna` with
//! `{"celsius": 21.5}`; whatever is not as an AimDB server would do it ends in a panic.

use std::error::Error;
use std::time::Duration;

use aimdb_client::{AimxConnection, RecordUpdate};
use futures::stream::{BoxStream, StreamExt};
use serde_json::json;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

type Updates<E> = BoxStream<'static, Result<RecordUpdate, E>>;

async fn next<E: std::fmt::Debug>(stream: &mut Updates<E>) -> Option<Result<RecordUpdate, E>> {
    timeout(PATIENCE, stream.next()).await.expect("an update, or the end")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().expect("a socket");
    let records: usize = arguments.next().expect("a number of records").parse()?;
    let db = AimxConnection::connect(&path).await?;
    assert_eq!(db.server_info().server, "recordd");

    let listed = db.list_records().await?;
    assert!(listed.len() > records, "{} of {records} records", listed.len());
    let vienna = listed.iter().find(|row| row.record_key == "temp.vienna").expect("temp.vienna");
    assert_eq!(vienna.entity.as_deref(), Some("vienna"));
    assert_eq!(vienna.schema_type.as_deref(), Some("temperature"));
    assert_eq!(db.graph_nodes().await?.len(), listed.len());
    assert_eq!(db.graph_topo_order().await?.len(), listed.len());
    assert!(db.graph_edges().await?.is_empty());

    assert_eq!(db.get_record("temp.vienna").await?, json!({"celsius": 21.5}));
    assert!(db.get_record("nowhere").await.is_err());
    let answer = db.set_record("peer.a", json!([1, "ü"])).await?;
    assert_eq!(answer["value"], json!([1, "ü"]));
    assert_eq!(db.drain_record("peer.a").await?.values, vec![json!([1, "ü"])]);
    let found = db.query(json!({"name": "list.*"})).await?;
    assert_eq!(found["total"], json!(records));
    assert_eq!(found["records"].as_array().map(Vec::len), Some(records));

    // A refusal is one error, and then the end.
    let mut missing = db.subscribe("nowhere")?;
    assert!(matches!(next(&mut missing).await, Some(Err(_))));
    assert!(next(&mut missing).await.is_none());

    let mut exact = db.subscribe("peer.a")?;
    let mut wild = db.subscribe("peer.*")?;
    let first = next(&mut exact).await.expect("a value")?;
    assert_eq!(first.value, Some(json!([1, "ü"])));
    let snapshot = next(&mut wild).await.expect("a value")?;
    assert!(snapshot.snapshot_end);
    assert_eq!(snapshot.topic.as_deref(), Some("peer.a"));
    db.write_record("peer.a", json!(2))?;
    for stream in [&mut exact, &mut wild] {
        let update = next(stream).await.expect("an update")?;
        assert_eq!((update.value, update.skipped), (Some(json!(2)), 0));
    }

    db.reset_stage_profiling().await?;
    db.reset_buffer_metrics().await?;
    println!("aimdb-client: ok, {} records", listed.len());
    Ok(())
}
