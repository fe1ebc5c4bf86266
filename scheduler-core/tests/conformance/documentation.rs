//! What the guide for authors shows is what there is.

use std::path::Path;

use scheduler_core::conformance::PROMISES;

fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("cannot read {file}: {error}"))
}

#[test]
fn the_guide_lists_every_promise_by_chapter() {
    let guide = read("docs/writing-a-backend.md");
    let (_, list) = guide.split_once("\n## The promises\n").unwrap();

    let mut expected = String::new();
    let mut chapter = "";
    for promise in PROMISES {
        if promise.chapter != chapter {
            chapter = promise.chapter;
            expected += &format!("\n**{chapter}**\n\n");
        }
        expected += &format!("- {}\n", promise.sentence());
    }

    assert_eq!(list, expected, "set docs/writing-a-backend.md to this list:\n{expected}");
}

#[test]
fn the_guide_shows_the_code_of_the_example() {
    let guide = read("docs/writing-a-backend.md");
    let mut shown = 0;
    for part in guide.split("<!-- ").skip(1) {
        let (file, rest) = part.split_once(" -->\n```rust\n").unwrap();
        let (code, _) = rest.split_once("```").unwrap();
        assert!(
            read(file).contains(code),
            "{file} does not hold what docs/writing-a-backend.md shows:\n{code}"
        );
        shown += 1;
    }

    assert!(shown > 0);
}
