// What the monitor says, once a second: the JSON of `GET /api/snapshot`, `GET /api/history` and `GET /api/events`.
//
// Any scalar may be null: the monitor does not know it, and the page says so with a dash. Lists and objects are never
// null here: `readSnapshot` in snapshot.js stands between the wire and everything else. Times are RFC 3339 in UTC; ages and durations are
// milliseconds; counts fit in a double.

export interface Replica {
  name: string | null;
  role: string | null;
  state: string | null;
  lag_ms: number | null;
}

export interface Server {
  name: string | null;
  kind: string | null;
  state: string | null;
  version: string | null;
  address: string | null;
  detail: string | null;
  since: string | null;
  /** Of QuestDB: false where nothing waits for its sake. */
  required: boolean | null;
  latency_ms: number | null;
  clock_skew_ms: number | null;
  /** Of Redis; a limit of 0 is none. */
  memory: { used_bytes: number | null; limit_bytes: number | null };
  replicas: Replica[];
}

export interface LedgerRow {
  bot: string | null;
  table: string | null;
  sink: string | null;
  recorded: number | null;
  pending: number | null;
  delivered: number | null;
  visible: number | null;
  quarantined: number | null;
  missed: number | null;
  dropped: number | null;
  adds_up: boolean | null;
}

export interface Sink {
  bot: string | null;
  name: string | null;
  state: string | null;
  detail: string | null;
  backlog_rows: number | null;
  backlog_bytes: number | null;
  oldest_pending_ms: number | null;
  required: boolean | null;
}

export interface Price {
  token: string | null;
  /** Decimal digits, as they were written. */
  value: string | null;
  slot: number | null;
  age_ms: number | null;
  fresh: boolean | null;
}

export interface Group {
  name: string | null;
  lag: number | null;
  pending: number | null;
  trimmed_unread: number | null;
  trimmed_pending: number | null;
}

export interface Stream {
  topic: string | null;
  length: number | null;
  cap: number | null;
  /** Dead letters. */
  dead: number | null;
  groups: Group[];
}

export interface TokenChange {
  at: string | null;
  mint: string | null;
  symbol: string | null;
  what: string | null;
}

export interface Component {
  component: string | null;
  status: string | null;
  at: string | null;
  age_ms: number | null;
  detail: string | null;
}

export interface Drill {
  drill: string | null;
  at: string | null;
  ok: boolean | null;
  lost: number | null;
  doubled: number | null;
}

export interface JournalClass {
  bot: string | null;
  class: string | null;
  used_bytes: number | null;
  budget_bytes: number | null;
  oldest: string | null;
  /** What the budget is for: bytes that the slowest required sink has not finished. */
  undelivered_bytes: number | null;
  damaged_segments: number | null;
}

/** What one QuestDB says of its tables. */
export interface Tape {
  sink: string | null;
  suspended: { table: string | null; why: string | null }[];
  views: { name: string | null; invalid: string | null; lag_ms: number | null }[];
  checkpoint_open_ms: number | null;
}

export interface Disk {
  where: string | null;
  free_bytes: number | null;
  total_bytes: number | null;
}

/** What runs at set times. */
export interface Job {
  name: string | null;
  running: boolean | null;
  last_at: string | null;
  ok: boolean | null;
  detail: string | null;
  next_at: string | null;
}

export interface Alert {
  id: string | null;
  severity: string | null;
  what: string | null;
  since: string | null;
  runbook: string | null;
}

export interface Snapshot {
  seq: number | null;
  at: string | null;
  ok: boolean | null;
  version: string | null;
  servers: Server[];
  ledger: LedgerRow[];
  sinks: Sink[];
  rates: { recorded_per_s: number | null; visible_per_s: number | null };
  visible_ms: { p50: number | null; p99: number | null };
  prices: { tokens: number | null; fresh: number | null; stale: number | null; list: Price[] };
  streams: Stream[];
  tokens: {
    total: number | null;
    tradable: number | null;
    costly: number | null;
    refused: number | null;
    recent_changes: TokenChange[];
  };
  health: Component[];
  backup: {
    last_id: string | null;
    last_at: string | null;
    last_proven_at: string | null;
    running: boolean | string | null;
  };
  drills: Drill[];
  journal: JournalClass[];
  tape: Tape[];
  disks: Disk[];
  jobs: Job[];
  /** What could not be read on the monitor's machine, in words. */
  troubles: string[];
  alerts: Alert[];
}

/** One line of the charts per name. */
export type SeriesName =
  | "recorded_per_s"
  | "visible_per_s"
  | "pending_rows"
  | "visible_p99_ms"
  | "price_oldest_ms"
  | "stream_lag";

export interface HistoryColumns {
  /** Unix seconds, ascending. */
  at: number[];
  series: Record<SeriesName, (number | null)[]>;
  /** Per server: 1 up, 0 down, null not known. */
  serverUp: Record<string, (number | null)[]>;
}

export type Level = "ok" | "warn" | "bad" | "unknown";
