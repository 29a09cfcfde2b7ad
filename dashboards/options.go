package dashboards

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting/alert"
	"bramble/alerting/incident"
	"bramble/alerting/oncall"
)

// ErrDenied is returned for a wrong password, an unknown or an expired credential.
var ErrDenied = errors.New("access denied")

// ErrUnknownIncident is returned for an id that does not exist.
var ErrUnknownIncident = errors.New("no such incident")

// ErrConflict is returned for an act that a thing's state forbids, ErrBadRequest for a request that names
// something unknown; the rest of the error is for the person.
var (
	ErrConflict   = errors.New("cannot be done")
	ErrBadRequest = errors.New("bad request")
)

// ErrUnknownBoard is returned for a board that is not registered.
var ErrUnknownBoard = errors.New("no such board")

// Role is the permission of a user. Each role includes those before it.
type Role string

// The roles, weakest first. A viewer changes nothing; an operator acknowledges and silences. An importer stands beside
// them: it writes foreign series and may do nothing else. An admin may do that too. A customer stands beside them as well
// and reaches customerRoutes alone.
const (
	Beating  Role = "heartbeat" // of tokens alone: may send heartbeats and see nothing
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Admin    Role = "admin"
	Importer Role = "importer"
	Customer Role = "customer"
)

func (r Role) allows(need Role) bool {
	if need == Importer {
		return r == Importer || r == Admin
	}
	rank := map[Role]int{Beating: 1, Viewer: 2, Operator: 3, Admin: 4}
	return rank[r] > 0 && rank[r] >= rank[need]
}

// User is who a request comes from.
type User struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Customer is whose boards the user sees, of the role customer; "" for any other.
	Customer string `json:"customer,omitempty"`
}

// Auth checks credentials. It must be safe for concurrent use.
type Auth interface {
	// Login checks a password and returns a new session credential. ErrDenied for a wrong one.
	Login(ctx context.Context, name, password string) (session string, err error)
	// Authenticate maps a session or an API token to its user. ErrDenied when it is not in force.
	Authenticate(ctx context.Context, credential string) (User, error)
	// Logout ends a session. An unknown one is no error.
	Logout(ctx context.Context, session string) error
}

// Board is one registered board. LastReport is zero when it has never reported.
type Board struct {
	Name       string            `json:"name"`
	Labels     map[string]string `json:"labels"`
	Enrolled   bool              `json:"enrolled"`
	EnrolledAt int64             `json:"enrolledAt,omitempty"` // Unix ms of its first enrolment, 0 before
	KeyChanged int64             `json:"keyChanged,omitempty"` // Unix ms at which its key was last accepted or forgotten, 0 before
	LastReport time.Time         `json:"-"`
	// Rejected counts by reason what of the board was not taken since the collector started: readings, or whole reports
	// where they could not be decoded, were too large or had no time that is accepted. nil = nothing.
	Rejected map[string]uint64 `json:"rejected,omitempty"`
}

// Incident is one failure as a person sees it. Times are Unix milliseconds, 0 for "not yet".
type Incident struct {
	ID             string            `json:"id"`
	Number         int64             `json:"number"` // its name among people
	Title          string            `json:"title"`
	Reason         string            `json:"reason,omitempty"` // why the collector believes it
	Detail         string            `json:"detail,omitempty"`
	Now            string            `json:"now,omitempty"` // how its condition stands at the newest reading
	Runbook        string            `json:"runbook,omitempty"`
	PagesNobody    bool              `json:"pagesNobody,omitempty"` // recorded only: the customer may have done it
	Shadow         bool              `json:"shadow,omitempty"`      // it pages nobody because its rule is tried out
	Severity       string            `json:"severity"`              // critical or warning
	State          string            `json:"state"`                 // firing, acknowledged or resolved
	Since          int64             `json:"since"`
	ResolvedAt     int64             `json:"resolvedAt,omitempty"`
	AcknowledgedAt int64             `json:"acknowledgedAt,omitempty"`
	AcknowledgedBy string            `json:"acknowledgedBy,omitempty"`
	Comment        string            `json:"comment,omitempty"`
	SnoozedUntil   int64             `json:"snoozedUntil,omitempty"`
	Closing        string            `json:"closing,omitempty"` // somebody's finding in the end
	ClosedBy       string            `json:"closedBy,omitempty"`
	EscalatesAt    int64             `json:"escalatesAt,omitempty"`
	EscalatesTo    string            `json:"escalatesTo,omitempty"`
	Alerts         int               `json:"alerts"`
	Boards         []string          `json:"boards,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Pages          []incident.Page   `json:"pages,omitempty"`
}

// Backup is one backup in the target. Times are Unix milliseconds, 0 for "never" or "not known".
type Backup struct {
	Name     string  `json:"name"`
	Taken    int64   `json:"taken,omitempty"`
	Bytes    int64   `json:"bytes,omitempty"`
	Rows     uint64  `json:"rows,omitempty"`
	Series   uint64  `json:"series,omitempty"`
	Boards   int     `json:"boards,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	TestedAt int64   `json:"testedAt,omitempty"`
	Good     bool    `json:"good"` // it was restored successfully when that was last tried
	Result   string  `json:"result"`
}

// Backups is the state of the collector's backups.
type Backups struct {
	Target       string   `json:"target"`       // "" where the collector makes none
	EverySeconds int64    `json:"everySeconds"` // 0: none are scheduled
	Running      bool     `json:"running"`
	AttemptAt    int64    `json:"attemptAt,omitempty"` // of the last one since the start
	Error        string   `json:"error,omitempty"`     // of the last attempt
	Kept         []Backup `json:"backups"`             // newest first
}

// Fault is one coming or past fault of a simulation.
type Fault struct {
	At   time.Time
	What string
	Done bool
}

// Received is one page exactly as its receiver got it.
type Received struct {
	At         time.Time
	ID         string // idempotency key
	To         string // the receiver's name
	Subject    string
	Headers    map[string]string
	Body       string
	IncidentID string
}

// Demo describes simulated boards. The funcs must be safe for concurrent use.
type Demo struct {
	Faults      func() []Fault
	Inbox       func() []Received
	HistoryEnds time.Time // simulated history lies before this
}

// Fleet knows the registered boards. Its methods must be safe for concurrent use.
type Fleet interface {
	Boards() []Board
	// Announcements are the words that Expect takes; none where nobody can announce anything.
	Announcements() []string
	// Expect notes that something will happen to a board within a time. It returns ErrUnknownBoard for a
	// wrong board.
	Expect(ctx context.Context, board, who, what string, within time.Duration) error
	// Watch asks for a live lease of a board on behalf of a viewer.
	Watch(board, viewer string, d time.Duration) error
}

// Incidents keeps incidents. Its methods must be safe for concurrent use; they return ErrUnknownIncident
// for a wrong id.
type Incidents interface {
	// Incidents lists the firing ones and those of the recent past, newest first.
	Incidents(ctx context.Context) ([]Incident, error)
	// Incident returns one with its events.
	Incident(ctx context.Context, id string) (Incident, []incident.Event, error)
	// Acknowledge records who has an incident.
	Acknowledge(ctx context.Context, id, who, comment string) error
	// Snooze acknowledges for a time; ErrConflict for an incident that is over.
	Snooze(ctx context.Context, id, who, comment string, d time.Duration) error
	// Close ends an incident with a comment; ErrConflict for one that is over.
	Close(ctx context.Context, id, who, comment string) error
}

// Paging knows who is paged, and which alerts page nobody. Its methods must be safe for concurrent use.
type Paging interface {
	OnCall() OnCall
	// Override puts somebody on call for a while and returns the override's number, or ErrBadRequest.
	Override(ctx context.Context, o oncall.Override) (int64, error)
	// EndOverride ends one, or returns ErrUnknownOverride.
	EndOverride(ctx context.Context, id int64, who string) error
	// Off lists the alerts that can page nobody now.
	Off() alert.OffReport
	// Tests lists test pages, newest first; Test sends one to a receiver, "" for the first.
	Tests(ctx context.Context) ([]alert.PageTest, error)
	Test(ctx context.Context, receiver, who string) (alert.PageTest, error)
}

// Collector is the program itself. Its methods must be safe for concurrent use.
type Collector interface {
	// Ready is nil while everything answers; its error goes to the probe's log line, not to strangers.
	Ready() error
	// Reload puts changed rule files and routes in force; its error names file, line and reason, and
	// nothing is changed.
	Reload() error
	// Rejected counts dropped reports by reason.
	Rejected() map[string]uint64
	// Counts are totals since the start, by name, such as readings.
	Counts() map[string]uint64
	// Backups is the state of the collector's backups.
	Backups() Backups
}

// Options are the parts of the collector that a Server shows. Fleet is required, and either Auth or Open.
// A nil handler answers 404; any other nil part is one that this collector has not.
type Options struct {
	Version string
	// BoardsPort is the port at which boards connect; empty where it is not known.
	BoardsPort string
	Started    time.Time // zero: when New was called

	Auth Auth
	// Open lets everybody in as an operator, from loopback hosts only.
	Open bool
	// SecureCookie marks cookies Secure also when TLS ends before this server.
	SecureCookie bool

	Series  http.Handler // the store's /api/v1/… and /vmui/
	Rollups http.Handler // /rollups/api/v1/…, the store of the rollups
	Import  http.Handler // /api/v1/write and /api/v1/import…
	Rules   http.Handler // /api/v1/ rules, alerts and format_query
	Alerts  http.Handler // /api/v2/…
	Metrics http.Handler // /metrics

	Fleet        Fleet
	Incidents    Incidents
	Paging       Paging
	Maintenances Maintenances
	Heartbeats   Heartbeats
	Links        Links
	Own          Own
	OwnSettings  OwnSettings
	Histories    Histories
	Collector    Collector

	Demo       *Demo
	Log        *slog.Logger          // nil: slog.Default
	Registerer prometheus.Registerer // nil: not registered
}

func (o *Options) check() error {
	switch {
	case o.Fleet == nil:
		return errors.New("check dashboards options: Fleet is missing")
	case o.Auth == nil && !o.Open:
		return errors.New("check dashboards options: Auth is missing and Open is false")
	case o.Auth != nil && o.Open:
		return errors.New("check dashboards options: Auth and Open exclude each other")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	return nil
}
