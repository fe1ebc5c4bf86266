//! Which network addresses a job may connect to.
//!
//! An address is judged by what it leads to: one that carries an IPv4 address (mapped, compatible, NAT64, 6to4)
//! by that one. What is not public is refused unless the task allows it by a word or by its network. A network
//! does not open the addresses of cloud metadata, which hand out credentials, unless it names just one of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use scheduler_core::ArgsError;

use crate::network::Network;

/// Why an address is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Loopback,
    Private,
    Shared,
    LinkLocal,
    Metadata,
    Unspecified,
    Broadcast,
    Multicast,
    Documentation,
    Reserved,
}

/// The words of `allow`, and what stands in messages.
const KINDS: [(Kind, &str, &str); 10] = [
    (Kind::Loopback, "loopback", "this machine"),
    (Kind::Private, "private", "a private network"),
    (Kind::Shared, "shared", "a carrier-grade NAT"),
    (Kind::LinkLocal, "link_local", "the local link"),
    (Kind::Metadata, "metadata", "a cloud's metadata"),
    (Kind::Unspecified, "unspecified", "no specified machine"),
    (Kind::Broadcast, "broadcast", "every machine of the link"),
    (Kind::Multicast, "multicast", "a multicast group"),
    (Kind::Documentation, "documentation", "a network for examples"),
    (Kind::Reserved, "reserved", "a reserved network"),
];

/// Addresses at which clouds hand out credentials: AWS, Azure, Google, ECS, EKS, Alibaba, Oracle.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Special networks by the registries of IANA (RFC 6890), the narrower one first.
const SPECIAL: [(&str, Kind); 28] = [
    ("0.0.0.0/8", Kind::Unspecified),
    ("10.0.0.0/8", Kind::Private),
    ("100.64.0.0/10", Kind::Shared),
    ("127.0.0.0/8", Kind::Loopback),
    ("169.254.0.0/16", Kind::LinkLocal),
    ("172.16.0.0/12", Kind::Private),
    ("192.0.0.0/24", Kind::Reserved),
    ("192.0.2.0/24", Kind::Documentation),
    ("192.88.99.0/24", Kind::Reserved),
    ("192.168.0.0/16", Kind::Private),
    ("198.18.0.0/15", Kind::Reserved),
    ("198.51.100.0/24", Kind::Documentation),
    ("203.0.113.0/24", Kind::Documentation),
    ("224.0.0.0/4", Kind::Multicast),
    ("255.255.255.255/32", Kind::Broadcast),
    ("240.0.0.0/4", Kind::Reserved),
    ("::/128", Kind::Unspecified),
    ("::1/128", Kind::Loopback),
    ("64:ff9b:1::/48", Kind::Private),
    ("2001::/23", Kind::Reserved),
    ("2001:db8::/32", Kind::Documentation),
    ("3fff::/20", Kind::Documentation),
    ("fc00::/7", Kind::Private),
    ("fe80::/10", Kind::LinkLocal),
    ("fec0::/10", Kind::Private),
    ("ff00::/8", Kind::Multicast),
    ("2000::/3", Kind::Reserved),
    ("::/0", Kind::Reserved),
];

/// Everything of IPv6 that is public lies in here.
const GLOBAL: &str = "2000::/3";

/// What a task may connect to besides public addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    kinds: Vec<Kind>,
    networks: Vec<Network>,
}

/// An address that may not be connected to, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    address: IpAddr,
    kind: Kind,
}

impl Allowed {
    /// Reads words and networks.
    ///
    /// # Errors
    /// Every entry that is neither, with its place below `pointer`.
    pub(crate) fn parse(entries: &[String], pointer: &str) -> Result<Self, Vec<ArgsError>> {
        let mut allowed = Self::default();
        let mut faults = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            if let Some((kind, ..)) = KINDS.iter().find(|(_, word, _)| word == entry) {
                allowed.kinds.push(*kind);
                continue;
            }
            match entry.parse() {
                Ok(network) => allowed.networks.push(network),
                Err(fault) => {
                    let words = KINDS.map(|(_, word, _)| word).join("`, `");
                    let help = format!("write a network such as `10.1.0.0/16`, or one of `{words}`");
                    faults.push(ArgsError::new(format!("{pointer}/{index}"), fault).with_help(help));
                }
            }
        }
        if faults.is_empty() { Ok(allowed) } else { Err(faults) }
    }

    /// Judges an address.
    ///
    /// # Errors
    /// Says what it leads to.
    pub(crate) fn judge(&self, address: IpAddr) -> Result<(), Refused> {
        let meant = meant_by(address);
        let Some(kind) = kind_of(meant) else { return Ok(()) };
        let named = |network: &Network| {
            let holds = network.holds(meant) || network.holds(address);
            holds && (kind != Kind::Metadata || network.is_single())
        };
        if self.kinds.contains(&kind) || self.networks.iter().any(named) {
            return Ok(());
        }
        Err(Refused { address, kind })
    }
}

impl Refused {
    /// What to do about it.
    pub(crate) fn help(&self) -> String {
        let word = KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or("", |(_, word, _)| *word);
        format!("if it is meant, write `allow = [\"{word}\"]` or the address itself")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = KINDS.iter().find(|(kind, ..)| *kind == self.kind).map_or("", |(.., meaning)| *meaning);
        write!(f, "address {} is refused: it leads to {meaning}", self.address)
    }
}

impl std::error::Error for Refused {}

/// The IPv4 address that an IPv6 address carries, else the address itself.
fn meant_by(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match [a, b, c, d, e, f] {
        // `::` and `::1` are no IPv4 addresses.
        [0, 0, 0, 0, 0, 0] if g == 0 && h <= 1 => address,
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] | [0, 0, 0, 0, 0xffff, 0] => embedded(g, h),
        [0x2002, high, low, ..] => embedded(high, low),
        _ => address,
    }
}

/// What keeps an address from being public.
fn kind_of(address: IpAddr) -> Option<Kind> {
    if METADATA.contains(&address) {
        return Some(Kind::Metadata);
    }
    let holds = |text: &str| text.parse::<Network>().is_ok_and(|network| network.holds(address));
    let (text, kind) = SPECIAL.iter().find(|(text, _)| holds(text))?;
    (*text != GLOBAL).then_some(*kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(entries: &[&str]) -> Allowed {
        let entries: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
        Allowed::parse(&entries, "/allow").unwrap()
    }

    #[test]
    fn an_address_is_judged_by_what_it_leads_to() {
        let cases = [
            ("1.1.1.1", None),
            ("0.0.0.0", Some(Kind::Unspecified)),
            ("0.1.2.3", Some(Kind::Unspecified)),
            ("9.255.255.255", None),
            ("10.0.0.1", Some(Kind::Private)),
            ("100.63.255.255", None),
            ("100.64.0.1", Some(Kind::Shared)),
            ("100.127.255.255", Some(Kind::Shared)),
            ("100.128.0.0", None),
            ("100.100.100.200", Some(Kind::Metadata)),
            ("127.0.0.1", Some(Kind::Loopback)),
            ("127.255.255.254", Some(Kind::Loopback)),
            ("168.63.129.16", Some(Kind::Metadata)),
            ("169.254.1.1", Some(Kind::LinkLocal)),
            ("169.254.169.254", Some(Kind::Metadata)),
            ("172.15.255.255", None),
            ("172.16.0.1", Some(Kind::Private)),
            ("172.31.255.255", Some(Kind::Private)),
            ("172.32.0.0", None),
            ("192.0.2.1", Some(Kind::Documentation)),
            ("192.168.255.255", Some(Kind::Private)),
            ("192.169.0.0", None),
            ("198.19.255.255", Some(Kind::Reserved)),
            ("203.0.113.7", Some(Kind::Documentation)),
            ("224.0.0.1", Some(Kind::Multicast)),
            ("240.0.0.1", Some(Kind::Reserved)),
            ("255.255.255.255", Some(Kind::Broadcast)),
            ("::", Some(Kind::Unspecified)),
            ("::1", Some(Kind::Loopback)),
            ("::2", Some(Kind::Unspecified)),
            ("::7f00:1", Some(Kind::Loopback)),
            ("::ffff:127.0.0.1", Some(Kind::Loopback)),
            ("::ffff:169.254.169.254", Some(Kind::Metadata)),
            ("::ffff:0:10.0.0.1", Some(Kind::Private)),
            ("64:ff9b::10.0.0.1", Some(Kind::Private)),
            ("64:ff9b::1.1.1.1", None),
            ("64:ff9b:1::1", Some(Kind::Private)),
            ("2002:7f00:1::", Some(Kind::Loopback)),
            ("2002:a9fe:a9fe::1", Some(Kind::Metadata)),
            ("2001::1", Some(Kind::Reserved)),
            ("2001:db8::1", Some(Kind::Documentation)),
            ("2606:4700::1111", None),
            ("fc00::1", Some(Kind::Private)),
            ("fd00:ec2::254", Some(Kind::Metadata)),
            ("fe80::1", Some(Kind::LinkLocal)),
            ("fec0::1", Some(Kind::Private)),
            ("ff02::1", Some(Kind::Multicast)),
            ("4000::1", Some(Kind::Reserved)),
        ];
        for (text, kind) in cases {
            let judged = Allowed::default().judge(text.parse().unwrap());
            assert_eq!(judged.err().map(|refused| refused.kind), kind, "{text}");
        }
    }

    #[test]
    fn a_word_or_a_network_opens_what_it_names_and_no_more() {
        let cases: [(&[&str], &str, bool); 13] = [
            (&["loopback"], "127.0.0.1", true),
            (&["loopback"], "::1", true),
            (&["loopback"], "10.0.0.1", false),
            (&["10.1.0.0/16"], "10.1.255.255", true),
            (&["10.1.0.0/16"], "10.2.0.0", false),
            (&["10.1.0.0/16"], "::ffff:10.1.0.1", true),
            (&["10.1.2.3"], "10.1.2.3", true),
            (&["10.1.2.3"], "10.1.2.4", false),
            (&["fd00::/8"], "fd12::1", true),
            (&["fd00::/8"], "fd00:ec2::254", false),
            (&["link_local", "0.0.0.0/0"], "169.254.169.254", false),
            (&["169.254.169.254"], "169.254.169.254", true),
            (&["metadata"], "169.254.169.254", true),
        ];
        for (entries, address, is_allowed) in cases {
            let judged = allowing(entries).judge(address.parse().unwrap());
            assert_eq!(judged.is_ok(), is_allowed, "{entries:?} {address}");
        }
    }

    #[test]
    fn what_is_no_network_and_no_word_is_named() {
        let cases = ["loopbak", "10.0.0.0/33", "10.0.0.1/8", "fd00::/129", "10.0.0.0/", "10/8", "", "::/0 "];
        for text in cases {
            let faults = Allowed::parse(&["private".to_owned(), text.to_owned()], "/allow").unwrap_err();
            assert_eq!(faults.len(), 1, "{text}");
            assert_eq!(faults[0].pointer, "/allow/1");
            assert!(faults[0].message.contains(text), "{}", faults[0]);
        }
    }
}
