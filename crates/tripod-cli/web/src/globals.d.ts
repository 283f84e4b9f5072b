/** The entries of docs/alerts.md, written in by build.mjs; not there in unit tests. */
declare const RUNBOOKS: string[];
