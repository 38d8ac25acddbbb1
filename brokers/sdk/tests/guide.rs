//! The guide shows the example as it is.

#[test]
fn the_guide_holds_the_example_word_for_word() {
    let example = include_str!("../examples/counter.rs");
    let guide = include_str!("../../../docs/write-a-broker.md");
    assert!(
        guide.contains(&format!("```rust\n{example}```\n")),
        "docs/write-a-broker.md shows another example than examples/counter.rs"
    );
}
