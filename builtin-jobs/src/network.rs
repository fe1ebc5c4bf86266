//! Networks in the notation of CIDR, such as `10.0.0.0/8`.

use std::net::IpAddr;
use std::str::FromStr;

/// Addresses with a common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    base: IpAddr,
    length: u8,
}

impl Network {
    /// Whether the address lies in it.
    pub(crate) fn holds(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differs = base.to_bits() ^ address.to_bits();
                differs.checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differs = base.to_bits() ^ address.to_bits();
                differs.checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether it is one address.
    pub(crate) fn is_single(self) -> bool {
        self.length == if self.base.is_ipv4() { 32 } else { 128 }
    }
}

impl FromStr for Network {
    type Err = String;

    /// Reads `10.0.0.0/8`, `fd00::/8`, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (base, length) = text.split_once('/').map_or((text, None), |(base, length)| (base, Some(length)));
        let unread = || format!("`{}` is no network and no known word", text.escape_debug());
        let base: IpAddr = base.parse().map_err(|_| unread())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => length.parse().ok().filter(|length| *length <= most).ok_or_else(unread)?,
        };
        let network = Self { base, length };
        let within = match base {
            IpAddr::V4(base) => base.to_bits().checked_shl(u32::from(length)).unwrap_or(0) != 0,
            IpAddr::V6(base) => base.to_bits().checked_shl(u32::from(length)).unwrap_or(0) != 0,
        };
        if within { Err(format!("`{text}` has bits set behind its first {length}")) } else { Ok(network) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_any_length_holds_what_it_should() {
        for (network, inside, outside) in [
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "ffff::", "1.2.3.4"),
            ("128.0.0.0/1", "255.0.0.0", "127.255.255.255"),
            ("1.2.3.4/32", "1.2.3.4", "1.2.3.5"),
        ] {
            let read: Network = network.parse().unwrap();
            assert!(read.holds(inside.parse().unwrap()), "{network}");
            assert!(!read.holds(outside.parse().unwrap()), "{network}");
        }
    }
}
