//! Which free units of a page file have no space behind them any more: it is given back once.

use std::collections::BTreeMap;

use super::extent::Extent;

/// Runs that were given back and not written since: first unit and end. Each is within a free one.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes(BTreeMap<u32, u32>);

impl Holes {
    /// The pieces of a free run that were not given back yet.
    pub(super) fn missing_from(&self, run: Extent) -> Vec<Extent> {
        let mut pieces = Vec::new();
        let mut from = run.unit;
        let inside = self.0.range(..run.end()).filter(|(_, end)| **end > run.unit);
        for (unit, end) in inside.chain([(&run.end(), &run.end())]) {
            if *unit > from {
                pieces.push(Extent { unit: from, units: unit - from });
            }
            from = *end;
        }
        pieces
    }

    /// A piece is given back.
    pub(super) fn dig(&mut self, piece: Extent) {
        self.0.insert(piece.unit, piece.end());
    }

    /// An extent is written.
    pub(super) fn fill(&mut self, extent: Extent) {
        while let Some((unit, end)) = self.0.range(..extent.end()).next_back()
            && *end > extent.unit
        {
            let (unit, end) = (*unit, *end);
            self.0.remove(&unit);
            if unit < extent.unit {
                self.0.insert(unit, extent.unit);
            }
            if end > extent.end() {
                self.0.insert(extent.end(), end);
            }
            if unit < extent.unit {
                break;
            }
        }
    }

    /// The file ends here now.
    pub(super) fn cut(&mut self, units: u32) {
        self.fill(Extent { unit: units, units: u32::MAX - units });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prng::Prng;

    #[test]
    fn each_unit_is_given_back_once() {
        let mut prng = Prng::new(7);
        let (mut holes, mut naive) = (Holes::default(), vec![false; 400]);
        for _ in 0..5_000 {
            let unit = prng.below(300) as u32;
            let extent = Extent { unit, units: 1 + prng.below(90) as u32 };
            let places = extent.unit as usize..extent.end() as usize;
            match prng.below(10) {
                0 => {
                    holes.cut(extent.unit);
                    naive[extent.unit as usize..].fill(false);
                }
                1..=4 => {
                    holes.fill(extent);
                    naive[places].fill(false);
                }
                _ => {
                    let pieces = holes.missing_from(extent);
                    let in_pieces = |unit: usize| {
                        let is_in =
                            |piece: &Extent| (piece.unit..piece.end()).contains(&(unit as u32));
                        pieces.iter().filter(|piece| is_in(piece)).count()
                    };
                    for unit in places.clone() {
                        assert_eq!(in_pieces(unit), usize::from(!naive[unit]), "unit {unit}");
                    }
                    let total: u32 = pieces.iter().map(|piece| piece.units).sum();
                    assert_eq!(
                        total as usize,
                        naive[places.clone()].iter().filter(|one| !**one).count()
                    );
                    pieces.into_iter().for_each(|piece| holes.dig(piece));
                    naive[places].fill(true);
                }
            }
        }
    }
}
