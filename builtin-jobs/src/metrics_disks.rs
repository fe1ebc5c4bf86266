//! The room on the disks of this machine: those of real file systems, each once.

use std::collections::BTreeSet;
use std::path::Path;

use crate::metrics_sample::Sample;
use crate::metrics_system::{float, read};

/// The most disks that are told.
const MOST: usize = 32;

/// The mount points of real file systems, each device once.
fn mount_points(mounts: &str, kinds: &str) -> Vec<String> {
    // Those without a device of their own hold nothing, or hang when their server does.
    let is_real = |kind: &str| {
        kind == "zfs" || kinds.lines().any(|line| line.strip_prefix('\t').is_some_and(|known| known == kind))
    };
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in mounts.lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let mount: Vec<&str> = mount.split(' ').collect();
        let (Some(device), Some(point)) = (mount.get(2), mount.get(4)) else { continue };
        let kind = source.split(' ').next().unwrap_or_default();
        // A container's root lies over others.
        if is_real(kind) || (kind == "overlay" && *point == "/") {
            found.push((device, unescaped(point)));
        }
    }
    found.sort_by(|a, b| (a.1.len(), &a.1).cmp(&(b.1.len(), &b.1)));
    let mut seen = BTreeSet::new();
    found.retain(|(device, _)| seen.insert(*device));
    found.into_iter().map(|(_, point)| point).collect()
}

/// A path in which some letters stand as `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[3..]);
            }
            None => {
                bytes.push(b'\\');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Looks at every disk.
pub(crate) fn look() -> Option<Vec<Sample>> {
    let points = mount_points(&read("/proc/self/mountinfo")?, &read("/proc/filesystems")?);
    let mut samples = Vec::new();
    let mut told = 0;
    for point in points {
        // One that is gone meanwhile, or hidden from this user, is none that could be told.
        let Ok(disk) = rustix::fs::statvfs(Path::new(&point)) else { continue };
        if disk.f_blocks == 0 || told == MOST {
            continue;
        }
        told += 1;
        let bytes = |blocks: u64| float(blocks.saturating_mul(disk.f_frsize));
        let labels = [("mount", point.as_str())];
        let numbers = [
            ("system_disk_total_bytes", bytes(disk.f_blocks)),
            ("system_disk_used_bytes", bytes(disk.f_blocks.saturating_sub(disk.f_bfree))),
            ("system_disk_free_bytes", bytes(disk.f_bavail)),
            ("system_disk_inodes", float(disk.f_files)),
            ("system_disk_inodes_free", float(disk.f_favail)),
        ];
        samples.extend(numbers.map(|(name, value)| Sample::gauge(name, &labels, value)));
    }
    Some(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_real_disk_is_told_once() {
        let mounts = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 22 8:2 / /srv/my\\040data rw - xfs /dev/sdb rw
25 22 8:1 /var /mnt/bind rw - ext4 /dev/sda1 rw
26 22 0:40 / /net rw - nfs4 host:/x rw
27 22 0:41 / /tank rw - zfs tank rw
28 22 0:42 / /var/lib/docker/x rw - overlay overlay rw
garbage
";
        let kinds = "nodev\tproc\nnodev\tnfs4\nnodev\toverlay\n\text4\n\txfs\n";
        assert_eq!(mount_points(mounts, kinds), ["/", "/tank", "/srv/my data"]);
        assert_eq!(mount_points("1 0 0:30 / / rw - overlay overlay rw\n", kinds), ["/"]);
        assert_eq!(unescaped("a\\134b\\x\\04"), "a\\b\\x\\04");
    }
}
