package alert

// Annotations that the collector adds to alerts, beside those of their rule.
const (
	// ReasonNote is the collector's reasoning, in sentences.
	ReasonNote = "reason"
	// LastReportNote is when a silent board was last heard, in NoteTime's form.
	LastReportNote = "last_report"
	// ProbeNote is the answer of a silent board's address: ProbeAnswers, ProbeSilence, or nothing where it was not asked.
	ProbeNote = "probe"
	// ExpectedNote names an announced event of the board.
	ExpectedNote = "expected"
	// NoteTime is the layout of LastReportNote, in UTC.
	NoteTime = "2006-01-02T15:04:05.000Z"
)

// Values of ProbeNote.
const (
	ProbeAnswers = "answers"
	ProbeSilence = "silence"
)

// DomainSuffix ends the name of an annotation that stands in for the one without it on a domain's page.
const DomainSuffix = "_domain"

// Labels of alerts that decide where they go.
const (
	// NameLabel is the alert's name, BoardLabel the board that it is about: absent where it is about none, or several.
	NameLabel  = "alertname"
	BoardLabel = "board"
	// DomainLabel marks the alert of a domain and names its kind. No alert of a board has it.
	DomainLabel = "domain"
	// PagesLabel is the label of a rule that says whom its alerts page; PagesDomains is its value for conditions that a
	// board's customer may well have caused himself: it pages for domains, and for boards without a customer.
	PagesLabel   = "pages"
	PagesDomains = "domains"
	// CustomerLabel is the registry's label of a board that is let. A board without it is the operator's own.
	CustomerLabel = "customer"
	// ShadowLabel with the value ShadowTrue marks a rule that is tried out: its incidents are recorded and shown, and
	// nobody is notified.
	ShadowLabel = "shadow"
	ShadowTrue  = "true"
)

// Reserved receivers. No alertmanager.yml may name them.
const (
	// Nobody is the receiver of alerts that are recorded and page nobody: conditions that a customer may well have
	// caused on one board, and alerts of rules in the shadow.
	Nobody = "(nobody)"
	// Watchdog is the receiver of the alert that shows that alerting works. It is no person's, and makes no incident.
	Watchdog = "(watchdog)"
	// Customers is the receiver of all mails to customers. It has no part in routes, escalation or the rota, and a
	// failure of its mails breaks nothing of the operator's.
	Customers = "(customers)"
)

// Metrics that alerting itself knows.
const (
	UpMetric          = "pi_board_up"
	ThrottledMetric   = "pi_throttled"
	SupplyMetric      = "pi_supply_fault"
	TemperatureMetric = "pi_soc_temperature_celsius"
	ClockMetric       = "pi_cpu_clock_hertz"
)

// InShadow reports whether an alert with these labels comes from a rule that is tried out.
func InShadow(labels map[string]string) bool { return labels[ShadowLabel] == ShadowTrue }

// PagesNobody reports whether the alert with these labels goes to [Nobody].
func PagesNobody(labels map[string]string) bool {
	return InShadow(labels) || labels[PagesLabel] == PagesDomains && labels[CustomerLabel] != "" && labels[DomainLabel] == ""
}

// ReceiverKind tells people from the reserved receivers.
type ReceiverKind int

const (
	// ToPeople is the kind of every receiver that a configuration names.
	ToPeople ReceiverKind = iota
	// ToNobody only records.
	ToNobody
	// ToWatchdog shows that alerting works.
	ToWatchdog
	// ToCustomers mails to customers.
	ToCustomers
)

// KindOf is the kind of a receiver.
func KindOf(receiver string) ReceiverKind {
	switch receiver {
	case Nobody:
		return ToNobody
	case Watchdog:
		return ToWatchdog
	case Customers:
		return ToCustomers
	}
	return ToPeople
}
