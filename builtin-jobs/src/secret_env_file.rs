//! Files of lines `NAME=value`, as shells and service managers read them.

/// A line that sets a variable.
struct Setting<'a> {
    name: &'a str,
    value: &'a str,
}

/// The names that a file sets, each with whether it has a value; and the numbers of lines that cannot be read.
pub(crate) fn names(text: &str) -> (Vec<(&str, bool)>, Vec<usize>) {
    let (mut names, mut bad) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match setting(line) {
            Some(Setting { name, value }) => names.push((name, !bare(value).is_empty())),
            None => bad.push(number + 1),
        }
    }
    (names, bad)
}

/// The value of a name; the last line that sets it counts.
pub(crate) fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut settings = text.lines().filter_map(|line| setting(line.trim()));
    settings.rfind(|setting| setting.name == name).map(|setting| bare(setting.value))
}

/// The text with another value for a name, in its last line that sets it; everything else stays as it is.
///
/// # Errors
/// When no line sets it, or the value cannot stand in such a file. The value is not told.
pub(crate) fn replaced(text: &str, name: &str, value: &str) -> Result<String, &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/+=@%,".contains(c);
    let written = if value.chars().all(is_plain) {
        value.to_owned()
    } else if value.chars().any(|c| c == '\'' || c.is_control()) {
        return Err("the new value holds a quote or a control character, which cannot stand in such a file");
    } else {
        format!("'{value}'")
    };
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let sets = |line: &String| setting(line.trim()).is_some_and(|setting| setting.name == name);
    let line = lines.iter_mut().rfind(|line| sets(line)).ok_or("no line of the file sets it")?;
    let head = line.split_once('=').map(|(head, _)| head.to_owned()).unwrap_or_default();
    let end = if line.ends_with("\r\n") {
        "\r\n"
    } else if line.ends_with('\n') {
        "\n"
    } else {
        ""
    };
    *line = format!("{head}={written}{end}");
    Ok(lines.concat())
}

fn setting(line: &str) -> Option<Setting<'_>> {
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let (name, value) = line.split_once('=')?;
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(Setting { name, value: value.trim() })
}

/// A value without its quotes.
fn bare(value: &str) -> &str {
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# keys\nexport A=one\nB=\"two words\"\n\nC=\nnonsense\nA='last'\r\n9=x";

    #[test]
    fn names_are_read_and_what_cannot_be_is_told_by_its_line() {
        let (names, bad) = names(TEXT);
        assert_eq!(names, [("A", true), ("B", true), ("C", false), ("A", true)]);
        assert_eq!(bad, [6, 8]);
        assert_eq!(
            (value(TEXT, "A"), value(TEXT, "B"), value(TEXT, "D")),
            (Some("last"), Some("two words"), None)
        );
    }

    #[test]
    fn one_value_is_replaced_and_all_else_stays() {
        assert_eq!(replaced(TEXT, "A", "new+/=").unwrap(), TEXT.replace("A='last'", "A=new+/="));
        assert_eq!(replaced(TEXT, "B", "a $b").unwrap(), TEXT.replace("\"two words\"", "'a $b'"));
        assert!(replaced(TEXT, "D", "x").is_err());
        for value in ["can'ary", "canary\nB=1"] {
            assert!(!replaced(TEXT, "A", value).unwrap_err().contains("canary"));
        }
    }
}
