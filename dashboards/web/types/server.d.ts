// The JSON that the collector sends to the pages. Each interface has the fields of the Go type of its
// name, which a Go test compares: a field with "omitempty" is optional here. Times are Unix
// milliseconds and values are in base units, where nothing else is said.

export type Labels = Record<string, string>;

// Series text, such as `pi_cpu_clock_hertz{source="measured"}`, to its value; null: it has none now.
export type Values = Record<string, number | null>;

export type ThrottleReason = "under_voltage" | "frequency_capped" | "throttled" | "soft_temperature_limit";

// /api/boards, /api/boards/{name}

export interface Boards {
  now: number;
  boards: BoardAnswer[];
}

export interface Latest {
  series: string;
  at: number;
  value: number;
}

export interface BoardAnswer {
  name: string;
  labels: Labels;
  enrolled: boolean;
  enrolledAt?: number;
  keyChanged?: number;
  lastReport?: number;
  rejected?: Record<string, number>;
  up?: boolean;
  stopped?: boolean;
  temperature?: number;
  requested?: number;
  measured?: number;
  throttled: ThrottleReason[] | null;
  latest?: Latest[];
}

// /api/boards/{name}/history, /api/rollups

export interface History {
  stepSeconds: number;
  spans: Span[];
}

export interface Span {
  labels: Labels;
  at: number[];
  min: number[];
  max: number[];
  mean: number[];
  count: number[];
}

export interface Rollups {
  bucketSeconds: number;
  rawSeconds: number;
  keptSeconds: number;
  until?: number;
}

// /api/incidents, /api/incidents/{id}

export interface IncidentList {
  now: number;
  incidents: Incident[];
}

export interface Incident {
  id: string;
  number: number;
  title: string;
  reason?: string;
  detail?: string;
  now?: string;
  runbook?: string;
  pagesNobody?: boolean;
  shadow?: boolean;
  severity: "critical" | "warning";
  state: "firing" | "acknowledged" | "resolved";
  since: number;
  resolvedAt?: number;
  acknowledgedAt?: number;
  acknowledgedBy?: string;
  comment?: string;
  snoozedUntil?: number;
  closing?: string;
  closedBy?: string;
  escalatesAt?: number;
  escalatesTo?: string;
  alerts: number;
  boards?: string[];
  labels?: Labels;
  pages?: Page[];
}

export interface Page {
  at: number;
  channel: string;
  to?: string;
  person?: string;
  about?: string;
  bundle?: string;
  attempt?: number;
  result: string;
  error?: string;
  latencyMs?: number;
}

export interface Event {
  at: number;
  kind: string;
  who?: string;
  text: string;
  page?: Page;
}

export interface IncidentAnswer extends Incident {
  events: Event[];
}

// /api/oncall

export interface OnCall {
  now: number;
  people: OnCallPerson[];
  rotas: Rota[];
  policies: Policy[];
}

export interface OnCallPerson {
  name: string;
  channels: OnCallChannel[];
}

export interface OnCallChannel {
  receiver: string;
  afterSeconds: number;
}

export interface Rota {
  name: string;
  zone: string;
  shifts: Shift[];
  gaps: Shift[];
  overrides?: Override[];
}

export interface Shift {
  from: number;
  to: number;
  person?: string;
  layer?: string;
  override?: boolean;
  starts: string;
  ends: string;
  zoneName: string;
}

export interface Override {
  id?: number;
  rota: string;
  person: string;
  from: number;
  to: number;
  by?: string;
}

export interface Policy {
  name: string;
  receivers: string[];
  steps: PolicyStep[];
  repeat: number;
  fallback?: string;
}

export interface PolicyStep {
  notify: string[];
  now: string[] | null;
  waitSeconds: number;
}

// /api/oncall/off, /api/oncall/maintenance

export interface OffReport {
  now: number;
  boards: number;
  rules: number;
  everything: boolean;
  items: Off[];
  firing: Suppressed[];
  firingCount: number;
}

export interface Suppressed {
  labels: Record<string, string>;
  firedAt: number;
  suppressions: Suppression[];
}

export interface Suppression {
  kind: string;
  by?: string;
  id?: string;
  until?: number;
}

export interface Off {
  kind: string;
  what: string;
  why: string;
  by?: string;
  since?: number;
  until?: number;
  boards?: string[];
  rules?: string[];
  everything?: boolean;
  id?: string;
}

export interface Maintenances {
  now: number;
  zone: string;
  maintenances: Maintenance[];
}

export interface Maintenance {
  number: number;
  matchers: string[];
  startsAt: number;
  endsAt: number;
  returnBy: number;
  comment?: string;
  by: string;
  createdAt: number;
  endedBy?: string;
  closedAt?: number;
  state: "planned" | "running" | "returning" | "over";
  boards: number;
  notBack?: string[];
}

// The question that answers a maintenance of more than 5 % of the fleet, with status 409.
export interface ConfirmAnswer {
  status: "error";
  error: string;
  boards: number;
  of: number;
}

// /api/heartbeats, /api/oncall/test

export interface Heartbeats {
  now: number;
  heartbeats: Heartbeat[];
  watchdog?: Beats;
}

export interface Heartbeat {
  name: string;
  board?: string;
  message?: string;
  by: string;
  withinSeconds: number;
  createdAt: number;
  lastAt: number;
  deadline: number;
  overdue: boolean;
}

export interface Beats {
  everySeconds: number;
  sentAt?: number;
  triedAt?: number;
  error?: string;
}

export interface PageTests {
  now: number;
  tests: PageTest[];
}

export interface PageTest {
  number: number;
  receiver: string;
  at: number;
  by: string;
  scheduledFor?: number;
  state: "waiting" | "delivered" | "failed";
  decidedAt?: number;
  latencyMs: number;
  answer?: string;
}

// /api/backups, /api/status, /api/demo

export interface BackupsAnswer {
  now: number;
  target: string;
  everySeconds: number;
  running: boolean;
  attemptAt?: number;
  error?: string;
  backups: Backup[];
}

export interface Backup {
  name: string;
  taken?: number;
  bytes?: number;
  rows?: number;
  series?: number;
  boards?: number;
  seconds?: number;
  testedAt?: number;
  good: boolean;
  result: string;
}

export interface Status {
  version: string;
  started: number;
  now: number;
  rejected: Record<string, number>;
  rejectedTotal: number;
  counts: Record<string, number>;
  boards: number;
}

export interface DemoAnswer {
  now: number;
  faults: FaultAnswer[];
  inbox: ReceivedAnswer[];
  historyEnds?: number;
}

export interface FaultAnswer {
  at: number;
  what: string;
  done: boolean;
}

export interface ReceivedAnswer {
  at: number;
  id?: string;
  to: string;
  subject: string;
  headers?: Record<string, string>;
  body: string;
  incidentId?: string;
}

// /api/own/…

export interface OwnBoards {
  now: number;
  customer: string;
  boards: OwnBoardAnswer[];
}

export interface OwnBoardAnswer {
  name: string;
  model?: string;
  since?: number;
  enrolledAt?: number;
  lastReport?: number;
  up?: boolean;
  stopped?: boolean;
  temperature?: number;
  requested?: number;
  measured?: number;
  throttled: ThrottleReason[] | null;
  latest?: Latest[];
}

export interface OwnAlerts {
  now: number;
  alerts: OwnAlert[];
}

export interface OwnAlert {
  board: string;
  name: string;
  severity?: string;
  since: number;
  until?: number;
  threshold?: boolean;
}

export interface OwnBook {
  customer: string;
  thresholds: OwnThreshold[];
  contacts: OwnContact[];
  kinds: OwnKind[];
  mail: boolean;
  waiting: number;
  waitingUntil?: number;
  limits: Record<string, number>;
}

export interface OwnThreshold {
  kind: string;
  board?: string;
  value: number;
  hysteresis: number;
  for: string;
  keepFiringFor: string;
}

export interface OwnContact {
  id: string;
  address: string;
  confirmed: boolean;
  askedAt: number;
  lastMail?: "waiting" | "delivered" | "failed";
}

export interface OwnKind {
  name: string;
  fixed: boolean;
  min: number;
  max: number;
  maxHysteresis: number;
}

// Messages of the websocket. Go's package comment of dashboards lists them.

export interface Cell {
  board: string;
  at?: number;
  up?: number;
  stopped?: boolean;
  temperature?: number;
  requested?: number;
  measured?: number;
  throttled?: ThrottleReason[];
}

export interface Frames {
  hello: { type: "hello"; now: number; version: string; user: string; role: string; web: string };
  time: { type: "time"; now: number };
  fleet: { type: "fleet"; now: number; full: boolean; boards: Cell[] };
  reading: { type: "reading"; board: string; at: number; values: Values };
  subscribed: { type: "subscribed"; board: string };
  skipped: { type: "skipped" };
  incidents: { type: "incidents"; incidents: Incident[] };
  watching: { type: "watching"; board: string; until: number };
  error: { type: "error"; error: string };
}

export type Frame = Frames[keyof Frames];

export type Request =
  | { type: "subscribe" | "unsubscribe"; fleet: true }
  | { type: "subscribe" | "unsubscribe" | "watch"; board: string };

// Prometheus' /api/v1/query and /api/v1/query_range; times in seconds.

export interface QueryAnswer {
  data: { result: { metric: Labels; value: [number, string] }[] };
}

export interface RangeAnswer {
  data: { result: { metric: Labels; values: [number, string][] }[] };
}
