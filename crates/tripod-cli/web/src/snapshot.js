// The door between the wire and the page: whatever arrives becomes a whole `Snapshot`.
//
// Constraints: never throws; a list that is missing is empty, a scalar of another kind than promised is null. So no
// panel asks whether a list is there, and every panel asks whether a number is. Text is cut at a length that no honest
// text has, since a page must stay usable when a server's answer is not.

import { isNumber } from "./format.js";

/** Characters of any text at most. */
const TEXT_MOST = 2_000;

/** @typedef {Record<string, unknown>} Raw */

/** @param {unknown} value @returns {Raw} */
const object = (value) =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? /** @type {Raw} */ (value) : {};

/** @template T @param {unknown} value @param {(raw: Raw) => T} read @returns {T[]} */
const list = (value, read) => (Array.isArray(value) ? value.map((item) => read(object(item))) : []);

/** @param {unknown} value */
const number = (value) => (isNumber(value) ? value : null);

/** @param {unknown} value */
const flag = (value) => (typeof value === "boolean" ? value : null);

/** @param {unknown} value */
function text(value) {
  if (typeof value === "string") return value.length > TEXT_MOST ? `${value.slice(0, TEXT_MOST)}…` : value;
  return isNumber(value) ? String(value) : null;
}

/** @param {unknown} value @returns {import("./contract.js").Snapshot} */
export function readSnapshot(value) {
  const raw = object(value);
  const [rates, visible, prices] = [object(raw.rates), object(raw.visible_ms), object(raw.prices)];
  const [tokens, backup] = [object(raw.tokens), object(raw.backup)];
  return {
    seq: number(raw.seq),
    at: text(raw.at),
    ok: flag(raw.ok),
    version: text(raw.version),
    servers: list(raw.servers, (server) => ({
      name: text(server.name),
      kind: text(server.kind),
      state: text(server.state),
      version: text(server.version),
      address: text(server.address),
      detail: text(server.detail),
      since: text(server.since),
      required: flag(server.required),
      latency_ms: number(server.latency_ms),
      clock_skew_ms: number(server.clock_skew_ms),
      memory: { used_bytes: number(object(server.memory).used_bytes), limit_bytes: number(object(server.memory).limit_bytes) },
      replicas: list(server.replicas, (replica) => ({
        name: text(replica.name),
        role: text(replica.role),
        state: text(replica.state),
        lag_ms: number(replica.lag_ms),
      })),
    })),
    ledger: list(raw.ledger, (row) => ({
      bot: text(row.bot),
      table: text(row.table),
      sink: text(row.sink),
      recorded: number(row.recorded),
      pending: number(row.pending),
      delivered: number(row.delivered),
      visible: number(row.visible),
      quarantined: number(row.quarantined),
      missed: number(row.missed),
      dropped: number(row.dropped),
      adds_up: flag(row.adds_up),
    })),
    sinks: list(raw.sinks, (sink) => ({
      bot: text(sink.bot),
      name: text(sink.name),
      state: text(sink.state),
      detail: text(sink.detail),
      backlog_rows: number(sink.backlog_rows),
      backlog_bytes: number(sink.backlog_bytes),
      oldest_pending_ms: number(sink.oldest_pending_ms),
      required: flag(sink.required),
    })),
    rates: { recorded_per_s: number(rates.recorded_per_s), visible_per_s: number(rates.visible_per_s) },
    visible_ms: { p50: number(visible.p50), p99: number(visible.p99) },
    prices: {
      tokens: number(prices.tokens),
      fresh: number(prices.fresh),
      stale: number(prices.stale),
      list: list(prices.list, (price) => ({
        token: text(price.token),
        value: text(price.value),
        slot: number(price.slot),
        age_ms: number(price.age_ms),
        fresh: flag(price.fresh),
      })),
    },
    streams: list(raw.streams, (stream) => ({
      topic: text(stream.topic),
      length: number(stream.length),
      cap: number(stream.cap),
      dead: number(stream.dead),
      groups: list(stream.groups, (group) => ({
        name: text(group.name),
        lag: number(group.lag),
        pending: number(group.pending),
        trimmed_unread: number(group.trimmed_unread),
        trimmed_pending: number(group.trimmed_pending),
      })),
    })),
    tokens: {
      total: number(tokens.total),
      tradable: number(tokens.tradable),
      costly: number(tokens.costly),
      refused: number(tokens.refused),
      recent_changes: list(tokens.recent_changes, (change) => ({
        at: text(change.at),
        mint: text(change.mint),
        symbol: text(change.symbol),
        what: text(change.what),
      })),
    },
    health: list(raw.health, (one) => ({
      component: text(one.component),
      status: text(one.status),
      at: text(one.at),
      age_ms: number(one.age_ms),
      detail: text(one.detail),
    })),
    backup: {
      last_id: text(backup.last_id),
      last_at: text(backup.last_at),
      last_proven_at: text(backup.last_proven_at),
      running: flag(backup.running) ?? text(backup.running),
    },
    drills: list(raw.drills, (drill) => ({
      drill: text(drill.drill),
      at: text(drill.at),
      ok: flag(drill.ok),
      lost: number(drill.lost),
      doubled: number(drill.doubled),
    })),
    journal: list(raw.journal, (one) => ({
      bot: text(one.bot),
      class: text(one.class),
      used_bytes: number(one.used_bytes),
      budget_bytes: number(one.budget_bytes),
      oldest: text(one.oldest),
      undelivered_bytes: number(one.undelivered_bytes),
      damaged_segments: number(one.damaged_segments),
    })),
    tape: list(raw.tape, (one) => ({
      sink: text(one.sink),
      suspended: list(one.suspended, (table) => ({ table: text(table.table), why: text(table.why) })),
      views: list(one.views, (view) => ({ name: text(view.name), invalid: text(view.invalid), lag_ms: number(view.lag_ms) })),
      checkpoint_open_ms: number(one.checkpoint_open_ms),
    })),
    disks: list(raw.disks, (disk) => ({
      where: text(disk.where),
      free_bytes: number(disk.free_bytes),
      total_bytes: number(disk.total_bytes),
    })),
    jobs: list(raw.jobs, (job) => ({
      name: text(job.name),
      running: flag(job.running),
      last_at: text(job.last_at),
      ok: flag(job.ok),
      detail: text(job.detail),
      next_at: text(job.next_at),
    })),
    troubles: Array.isArray(raw.troubles) ? raw.troubles.flatMap((words) => text(words) ?? []) : [],
    alerts: list(raw.alerts, (alert) => ({
      id: text(alert.id),
      severity: text(alert.severity),
      what: text(alert.what),
      since: text(alert.since),
      runbook: text(alert.runbook),
    })),
  };
}
