//! What the derive refuses, and in which words. A binary of its own: it builds, which would disturb the tests of servers
//! and their deadlines.

#[test]
fn a_mistake_in_a_row_is_a_compile_error_that_says_what_to_change() {
    trybuild::TestCases::new().compile_fail("tests/derive/*.rs");
}
