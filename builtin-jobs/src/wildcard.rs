//! Patterns of names: a `*` stands for any part of a name, and a `?` for one byte of it.

/// Whether a name is like a pattern, in time that is bounded by the product of their lengths.
pub(crate) fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where the latest star stands, and up to where it stands for the name.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] || *byte == b'?' => (p, n) = (p + 1, n + 1),
            Some(_) | None => match &mut star {
                Some((at, upto)) => {
                    *upto += 1;
                    (p, n) = (*at + 1, *upto);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_like_a_pattern() {
        let cases = [
            ("main", "main", true),
            ("main", "mainly", false),
            ("main", "domain", false),
            ("release/*", "release/1/2", true),
            ("release/*", "release/", true),
            ("v?.*", "v1.2.3", true),
            ("v?.*", "v10.2", false),
            ("*-rc*", "v1-beta-rc2", true),
            ("*a*b", "aab", true),
            ("*", "", true),
            ("?", "", false),
            ("a**b", "ab", true),
        ];
        for (pattern, name, fits) in cases {
            assert_eq!(is_like(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
        assert!(!is_like("*a".repeat(200).as_bytes(), "b".repeat(4_000).as_bytes()), "and soon");
    }
}
