package alerting

// Annotations that the collector adds to alerts, beside those of their rule.
const (
	// ReasonNote says in sentences why the collector believes what it says.
	ReasonNote = "reason"
	// LastReportNote is when a silent board was last heard, in NoteTime's form.
	LastReportNote = "last_report"
	// ProbeNote is what a silent board's address said: ProbeAnswers, ProbeSilence, or nothing where it was not asked.
	ProbeNote = "probe"
	// ExpectedNote names what was announced to happen to the board.
	ExpectedNote = "expected"
	// NoteTime is the layout of LastReportNote, in UTC.
	NoteTime = "2006-01-02T15:04:05.000Z"
)

// Values of ProbeNote.
const (
	ProbeAnswers = "answers"
	ProbeSilence = "silence"
)

// domainSuffix ends the name of an annotation that stands in for the one without it on a domain's page.
const domainSuffix = "_domain"

const (
	// pagesLabel is the label of a rule that says whom its alerts page; pagesDomains is its value for what a board's
	// customer may well have done himself: it pages for domains, and for boards without a customer.
	pagesLabel   = "pages"
	pagesDomains = "domains"
	// customerLabel is the registry's label of a board that is let. A board without it is the operator's own.
	customerLabel = "customer"
)

const (
	boardLabel = "board"
	alertLabel = "alertname"
)

// Nobody is the receiver of alerts that are recorded and page nobody: what a customer may well have done to one board,
// and those of rules in the shadow.
const Nobody = "(nobody)"

// A rule with this label is tried out: its incidents are recorded and shown, and nobody is told.
const (
	shadowLabel = "shadow"
	shadowTrue  = "true"
)

// InShadow reports whether an alert with these labels comes from a rule that is tried out.
func InShadow(labels map[string]string) bool { return labels[shadowLabel] == shadowTrue }

// pagesNobody reports whether the alert with these labels goes to Nobody, as withNobody's routes decide it.
func pagesNobody(labels map[string]string) bool {
	return InShadow(labels) || labels[pagesLabel] == pagesDomains && labels[customerLabel] != "" && labels[domainLabel] == ""
}

// Watchdog is the receiver of the alert that shows that alerting works. It is no person's, and makes no incident.
const Watchdog = "(watchdog)"

// Customers stands for all customers where pages name their receiver. It is no receiver of the alertmanager.yml, has no
// part in routes, escalation or the rota, and what becomes of its mails breaks nothing of the operator's.
const Customers = "(customers)"

const upMetric = "pi_board_up"

const throttledMetric = "pi_throttled"

const supplyMetric = "pi_supply_fault"

const temperatureMetric = "pi_soc_temperature_celsius"

const clockMetric = "pi_cpu_clock_hertz"
