//! Plain words as a document of Atlassian's (<https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/>): nothing in
//! them means anything, and a line that is a link is one.

use serde_json::{Value as Json, json};

/// A blank line ends a paragraph, any other line is one of it.
pub(super) fn document(text: &str) -> Json {
    let mut content: Vec<Json> = Vec::new();
    let mut lines: Vec<Json> = Vec::new();
    let mut end = |lines: &mut Vec<Json>| {
        if !lines.is_empty() {
            content.push(json!({ "type": "paragraph", "content": std::mem::take(lines) }));
        }
    };
    for line in text.lines() {
        if line.trim().is_empty() {
            end(&mut lines);
            continue;
        }
        if !lines.is_empty() {
            lines.push(json!({ "type": "hardBreak" }));
        }
        lines.push(match is_link(line.trim()) {
            true => {
                let marks = json!([{ "type": "link", "attrs": { "href": line.trim() } }]);
                json!({ "type": "text", "text": line, "marks": marks })
            }
            false => json!({ "type": "text", "text": line }),
        });
    }
    end(&mut lines);
    json!({ "version": 1, "type": "doc", "content": content })
}

fn is_link(line: &str) -> bool {
    let is_web = line.starts_with("https://") || line.starts_with("http://");
    is_web && !line.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_paragraphs_and_nothing_else() {
        let document = document("[a|http://x] {code}\nhttps://h/p\n\n  \n\"}],\nhttps://h p");
        let expected = json!({
            "version": 1,
            "type": "doc",
            "content": [
                { "type": "paragraph", "content": [
                    { "type": "text", "text": "[a|http://x] {code}" },
                    { "type": "hardBreak" },
                    { "type": "text", "text": "https://h/p", "marks": [{ "type": "link", "attrs": { "href": "https://h/p" } }] },
                ] },
                { "type": "paragraph", "content": [
                    { "type": "text", "text": "\"}]," },
                    { "type": "hardBreak" },
                    { "type": "text", "text": "https://h p" },
                ] },
            ],
        });
        assert_eq!(document, expected);
        assert_eq!(super::document("\n"), json!({ "version": 1, "type": "doc", "content": [] }));
    }
}
