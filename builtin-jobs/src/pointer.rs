//! JSON pointers (RFC 6901) to what is wrong in args.

/// The place of `key` below `parent`.
pub(crate) fn below(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}
