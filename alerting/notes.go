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
