//! A load that is several at once: leases renewed while somebody watches and somebody reads.

use crate::cli::bench::args::Common;
use crate::cli::bench::engine::{CallId, Io, Load, Op, Phase, Source};
use crate::wire::client::Status;

/// One of several loads. As [`Load`], with two preparations that all parts begin together.
pub(super) trait Part: Send {
    /// What it does in the preparation of this number.
    fn prepare(&mut self, _number: usize, _io: &mut Io) -> Option<Source> {
        None
    }

    /// What it does while it counts. Without a source it is driven by timers, or by others.
    fn source(&mut self, _io: &mut Io) -> Option<Source> {
        None
    }

    /// The next operation, of a preparation or not.
    fn start(&mut self, _is_preparing: bool, _op: Op, _io: &mut Io) -> bool {
        false
    }

    /// A message of one of its operations.
    fn message(
        &mut self,
        _call: CallId,
        _op: Op,
        _message: &[u8],
        _io: &mut Io,
    ) -> Result<(), &'static str> {
        Ok(())
    }

    /// One of its operations is over.
    fn ended(&mut self, _call: CallId, _op: Op, _status: &Status, _io: &mut Io) {}

    /// One of its timers.
    fn timer(&mut self, _token: u32, _io: &mut Io) {}

    /// A connection is there.
    fn link_ready(&mut self, _link: usize, _io: &mut Io) {}
}

/// Several parts as one load.
pub(super) struct Mixed {
    parts: Vec<Box<dyn Part>>,
    /// The part behind each source of the phase.
    sources: Vec<usize>,
    is_preparing: bool,
}

/// Preparations before what counts: first data, then watches.
const PREPARATIONS: usize = 2;

impl Mixed {
    pub(super) fn load(parts: Vec<Box<dyn Part>>) -> Box<dyn Load> {
        Box::new(Mixed { parts, sources: Vec::new(), is_preparing: true })
    }

    /// The phases of every such load.
    pub(super) fn phases(common: &Common, name: &'static str) -> Vec<Phase> {
        vec![Phase::setup("prepare"), Phase::setup("open the watches"), common.measured(name)]
    }

    /// The part of an operation, and the operation as that part knows it.
    fn of(&mut self, op: Op, io: &mut Io) -> (&mut dyn Part, Op) {
        let (part, kind) = Io::lane_of(op.kind);
        io.set_lane(part);
        (&mut *self.parts[part as usize], Op { kind, ..op })
    }
}

impl Load for Mixed {
    fn sources(&mut self, phase: usize, io: &mut Io) -> Vec<Source> {
        self.is_preparing = phase < PREPARATIONS;
        self.sources.clear();
        let mut sources = Vec::new();
        for (number, part) in self.parts.iter_mut().enumerate() {
            io.set_lane(number as u32);
            let source = if self.is_preparing { part.prepare(phase, io) } else { part.source(io) };
            if let Some(source) = source {
                self.sources.push(number);
                sources.push(source);
            }
        }
        sources
    }

    fn start(&mut self, source: usize, op: Op, io: &mut Io) -> bool {
        let part = self.sources[source];
        io.set_lane(part as u32);
        self.parts[part].start(self.is_preparing, op, io)
    }

    fn message(
        &mut self,
        call: CallId,
        op: Op,
        message: &[u8],
        io: &mut Io,
    ) -> Result<(), &'static str> {
        let (part, op) = self.of(op, io);
        part.message(call, op, message, io)
    }

    fn ended(&mut self, call: CallId, op: Op, status: &Status, io: &mut Io) {
        let (part, op) = self.of(op, io);
        part.ended(call, op, status, io);
    }

    fn timer(&mut self, token: u64, io: &mut Io) {
        let part = (token >> 32) as u32;
        io.set_lane(part);
        self.parts[part as usize].timer(token as u32, io);
    }

    fn link_ready(&mut self, link: usize, io: &mut Io) {
        for (number, part) in self.parts.iter_mut().enumerate() {
            io.set_lane(number as u32);
            part.link_ready(link, io);
        }
    }
}
