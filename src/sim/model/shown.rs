//! Answers as text: two answers are the same if their texts are.

use std::fmt::Write;
use std::sync::Arc;

use crate::base::record::Record;
use crate::wire::call::{
    Answer, DeleteRangeAnswer, OpAnswer, PutAnswer, RangeAnswer, Reply, TxnAnswer,
};

/// All that a reply says, on one line.
#[must_use]
pub fn shown(reply: &Reply) -> String {
    let mut out = String::new();
    let written = match reply {
        Err(reject) => write!(out, "{reject:?}"),
        Ok(Answer::Range(range)) => show_range(&mut out, range),
        Ok(Answer::Put(put)) => show_put(&mut out, put),
        Ok(Answer::DeleteRange(delete)) => show_delete(&mut out, delete),
        Ok(Answer::Txn(txn)) => show_txn(&mut out, txn),
        Ok(other) => write!(out, "{other:?}"),
    };
    assert!(written.is_ok(), "a string refused to grow");
    out
}

fn show_range(out: &mut String, range: &RangeAnswer) -> std::fmt::Result {
    let RangeAnswer { revision, records, keys_only, more, count } = range;
    write!(out, "range at {revision}: {count} keys, more {more}")?;
    if *keys_only && !records.is_empty() {
        out.push_str(", keys only");
    }
    show_records(out, records)
}

fn show_put(out: &mut String, put: &PutAnswer) -> std::fmt::Result {
    write!(out, "put at {}", put.revision)?;
    show_records(out, put.previous.as_slice())
}

fn show_delete(out: &mut String, delete: &DeleteRangeAnswer) -> std::fmt::Result {
    write!(out, "deleted {} at {}", delete.deleted, delete.revision)?;
    show_records(out, &delete.previous)
}

fn show_txn(out: &mut String, txn: &TxnAnswer) -> std::fmt::Result {
    write!(out, "txn at {}, ", txn.revision)?;
    show_ops(out, txn)
}

/// A nested transaction has no revision to show: its header stays empty.
fn show_ops(out: &mut String, txn: &TxnAnswer) -> std::fmt::Result {
    write!(out, "succeeded {}", txn.succeeded)?;
    for op in &txn.ops {
        out.push_str(" (");
        match op {
            OpAnswer::Range(range) => show_range(out, range)?,
            OpAnswer::Put(put) => show_put(out, put)?,
            OpAnswer::DeleteRange(delete) => show_delete(out, delete)?,
            OpAnswer::Txn(nested) => show_ops(out, nested)?,
        }
        out.push(')');
    }
    Ok(())
}

fn show_records(out: &mut String, records: &[Arc<Record>]) -> std::fmt::Result {
    for record in records {
        let value = record.value().escape_ascii();
        write!(out, " {record:?}={value}")?;
    }
    Ok(())
}
