// docs/alerts.md as a page of its own, so that "What to do" works at 3 a.m. without the internet.
//
// Constraints: the headings' ids are GitHub's, so that `docs/alerts.md#id` means the same there and here. The file is
// the repository's own; still, raw HTML in it is shown as text, and a link to a file that is not here is words.

import { Marked } from "marked";

/** GitHub's anchor of a heading. @param {string} heading */
export const anchor = (heading) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replace(/\s/g, "-");

/** @param {string} text */
const escaped = (text) =>
  text.replace(/[&<>"]/g, (character) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[character] ?? "");

/** @param {string} markdown @returns {{ html: string, ids: string[] }} */
export function runbookPage(markdown) {
  /** @type {string[]} */
  const ids = [];
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, text }) {
        const id = anchor(text);
        ids.push(id);
        return `<h${depth} id="${escaped(id)}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
      },
      link({ href, tokens }) {
        const words = this.parser.parseInline(tokens);
        // Another file of the repository is not here.
        return /^(#|https:)/.test(href) ? `<a href="${escaped(href)}" rel="noopener noreferrer">${words}</a>` : words;
      },
      html: ({ text }) => escaped(text),
    },
  });
  const body = marked.parse(markdown, { async: false });
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>What to do · Tripod</title>
<link rel="icon" type="image/svg+xml" href="icon-unknown.svg">
<script src="early.js"></script>
<link rel="stylesheet" href="styles.css">
</head>
<body>
<main class="runbooks">
${body}</main>
</body>
</html>
`;
  return { html, ids };
}
