//! JSON pointers (RFC 6901), the one way a place in the configuration is named inside the program.

/// The pointer to `key` below `parent`.
pub(crate) fn child(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The pointer to what holds this value; `None` at the top.
pub(crate) fn parent(pointer: &str) -> Option<&str> {
    pointer.rsplit_once('/').map(|(parent, _)| parent)
}

/// The pointer to the value at this path of keys.
pub(crate) fn from_path<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    keys.into_iter().fold(String::new(), |pointer, key| child(&pointer, key))
}

/// The keys from the top down.
pub(crate) fn keys(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_slashes_and_tildes_survive() {
        let pointer = from_path(["a/b", "~1", ""]);

        assert_eq!(keys(&pointer), ["a/b", "~1", ""]);
        assert_eq!(parent(&pointer), Some("/a~1b/~01"));
        assert_eq!(parent(""), None);
    }
}
