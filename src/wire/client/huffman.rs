//! The Huffman code of HPACK (RFC 7541, appendix B), decoding only: what we send is plain.
//!
//! The code is canonical: codes of one length are consecutive in the order of their symbols. So the
//! lengths alone define it.

const SYMBOLS: usize = 257;
const END_OF_STRING: u16 = 256;
const LENGTH_MAX: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// For each length: its first code, how many codes it has, and where its symbols begin in `sorted`.
struct Table {
    first_code: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    begin: [u32; LENGTH_MAX + 1],
    sorted: [u16; SYMBOLS],
}

static TABLE: Table = table();

const fn table() -> Table {
    let mut made = Table {
        first_code: [0; LENGTH_MAX + 1],
        count: [0; LENGTH_MAX + 1],
        begin: [0; LENGTH_MAX + 1],
        sorted: [0; SYMBOLS],
    };
    let mut length = 1;
    let mut code = 0;
    let mut filled = 0;
    while length <= LENGTH_MAX {
        code <<= 1;
        made.first_code[length] = code;
        made.begin[length] = filled as u32;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                made.sorted[filled] = symbol as u16;
                filled += 1;
                code += 1;
            }
            symbol += 1;
        }
        made.count[length] = filled as u32 - made.begin[length];
        length += 1;
    }
    made
}

/// Appends what `coded` stands for. False if it is no such code or would exceed `bytes_max`.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> bool {
    let mut code = 0_u32;
    let mut length = 0;
    let mut all_ones = true;
    for byte in coded {
        for bit in (0..8).rev() {
            let bit = u32::from(byte >> bit & 1);
            code = code << 1 | bit;
            all_ones &= bit == 1;
            length += 1;
            let offset = code.wrapping_sub(TABLE.first_code[length]);
            if code >= TABLE.first_code[length] && offset < TABLE.count[length] {
                let symbol = TABLE.sorted[(TABLE.begin[length] + offset) as usize];
                let Ok(byte) = u8::try_from(symbol) else {
                    debug_assert!(symbol == END_OF_STRING);
                    return false;
                };
                if out.len() >= bytes_max {
                    return false;
                }
                out.push(byte);
                (code, length, all_ones) = (0, 0, true);
            } else if length == LENGTH_MAX {
                return false;
            }
        }
    }
    // The padding is the head of the end-of-string code, less than a byte of it.
    length < 8 && all_ones
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out, 64).then_some(out)
    }

    #[test]
    fn the_examples_of_the_standard_come_out() {
        let cases: [(&[u8], &[u8]); 5] = [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
                b"www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
            (&[0x64, 0x02], b"302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], b"private"),
            (&[], b""),
        ];
        for (coded, plain) in cases {
            assert_eq!(decoded(coded).as_deref(), Some(plain));
        }
    }

    #[test]
    fn the_code_is_complete() {
        let sum: u64 = LENGTHS.iter().map(|length| 1 << (LENGTH_MAX - usize::from(*length))).sum();
        assert_eq!(sum, 1 << LENGTH_MAX);
    }

    #[test]
    fn bad_padding_and_the_end_symbol_are_refused() {
        assert_eq!(decoded(&[0x64, 0x02, 0xff]), None, "a whole byte of padding");
        assert_eq!(decoded(&[0b0000_0111]).as_deref(), Some(&b"0"[..]), "padded with ones");
        assert_eq!(decoded(&[0x00]), None, "padded with zeros");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the end-of-string symbol");
        let mut out = Vec::new();
        assert!(!decode(&[0x64, 0x02], &mut out, 2), "longer than allowed");
    }
}
