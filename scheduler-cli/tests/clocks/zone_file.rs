//! A file of a time-zone database: one zone that is always the same number of hours ahead of UTC (RFC 8536).

use std::path::Path;

/// Writes the zone, renamed into its place as a package manager does.
pub(crate) fn write(path: &Path, hours: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let new = path.with_extension("new");
    std::fs::write(&new, bytes(hours)).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn bytes(hours: u8) -> Vec<u8> {
    let mut block = b"TZif2".to_vec();
    block.extend([0; 15]);
    // No leap seconds and no transitions; one kind of time, with a name of four bytes.
    for count in [0_u32, 0, 0, 0, 1, 4] {
        block.extend(count.to_be_bytes());
    }
    block.extend((i32::from(hours) * 3_600).to_be_bytes());
    block.extend([0, 0]);
    block.extend(b"TST\0");
    // Once for readers of 32 bits, once for those of 64.
    let mut bytes = block.repeat(2);
    bytes.extend(format!("\nTST-{hours}\n").bytes());
    bytes
}
