package dashboards

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bramble/alerting"
)

// ErrDenied is what Auth returns for a wrong password, an unknown or an expired credential.
var ErrDenied = errors.New("access denied")

// ErrUnknownIncident is what Options.Acknowledge returns for an id that does not exist.
var ErrUnknownIncident = errors.New("no such incident")

// ErrConflict is what an option returns for what cannot be done to a thing as it stands, ErrBadRequest for a request that
// names what is not there; the rest of the error is for the person.
var (
	ErrConflict   = errors.New("cannot be done")
	ErrBadRequest = errors.New("bad request")
)

// ErrUnknownBoard is what Options.Expect returns for a board that is not registered.
var ErrUnknownBoard = errors.New("no such board")

// Role says what a user may do. Each role includes those before it.
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
	Number         int64             `json:"number"` // what people call it
	Title          string            `json:"title"`
	Reason         string            `json:"reason,omitempty"` // why the collector believes it
	Detail         string            `json:"detail,omitempty"`
	Now            string            `json:"now,omitempty"` // how its condition stands at the newest reading
	Runbook        string            `json:"runbook,omitempty"`
	PagesNobody    bool              `json:"pagesNobody,omitempty"` // recorded only: what a customer may have done himself
	Shadow         bool              `json:"shadow,omitempty"`      // it pages nobody because its rule is tried out
	Severity       string            `json:"severity"`              // critical or warning
	State          string            `json:"state"`                 // firing, acknowledged or resolved
	Since          int64             `json:"since"`
	ResolvedAt     int64             `json:"resolvedAt,omitempty"`
	AcknowledgedAt int64             `json:"acknowledgedAt,omitempty"`
	AcknowledgedBy string            `json:"acknowledgedBy,omitempty"`
	Comment        string            `json:"comment,omitempty"`
	SnoozedUntil   int64             `json:"snoozedUntil,omitempty"`
	Closing        string            `json:"closing,omitempty"` // what somebody found in the end
	ClosedBy       string            `json:"closedBy,omitempty"`
	EscalatesAt    int64             `json:"escalatesAt,omitempty"`
	EscalatesTo    string            `json:"escalatesTo,omitempty"`
	Alerts         int               `json:"alerts"`
	Boards         []string          `json:"boards,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Pages          []Page            `json:"pages,omitempty"`
}

// Page is one attempt to tell a person. Result is a word such as "delivered" or "failed".
type Page struct {
	At      int64  `json:"at"`
	Channel string `json:"channel"`
	To      string `json:"to,omitempty"`
	Person  string `json:"person,omitempty"`
	About   string `json:"about,omitempty"`  // page, resolve or ack, of what goes to a person
	Bundle  string `json:"bundle,omitempty"` // the message with which it left together with others
	Attempt int    `json:"attempt,omitempty"`
	Result  string `json:"result"`
	Error   string `json:"error,omitempty"`
	// LatencyMs is the time from the reading that fired to the page's departure; 0 where the page told nothing new.
	LatencyMs int64 `json:"latencyMs,omitempty"`
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

// Backups is what is known of the collector's backups.
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

// Options are the rooms that a Server reads from. All funcs must be safe for concurrent
// use. Boards is required, and either Auth or Open; a nil handler answers 404, any
// other nil func means "there is none".
type Options struct {
	Version string
	// BoardsPort is the port at which boards connect; empty where it is not known.
	BoardsPort string
	Started    time.Time // zero: when New was called
	Boards     func() []Board

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

	// Incidents lists the firing ones and those of the recent past, newest first.
	Incidents func(ctx context.Context) ([]Incident, error)
	// Acknowledge records who has an incident; ErrUnknownIncident for a wrong id.
	Acknowledge func(ctx context.Context, id, who, comment string) error
	// Incident returns one with all that happened to it; ErrUnknownIncident for a wrong id.
	Incident func(ctx context.Context, id string) (Incident, []IncidentEvent, error)
	// Snooze acknowledges for a time, Close ends an incident with a comment; ErrUnknownIncident for a wrong id, ErrConflict for
	// one that is over.
	Snooze func(ctx context.Context, id, who, comment string, d time.Duration) error
	Close  func(ctx context.Context, id, who, comment string) error
	// OnCall says who is on call. Override puts somebody on call for a while and returns the override's number, or
	// ErrBadRequest; EndOverride ends one, or returns ErrUnknownOverride.
	OnCall      func() OnCall
	Override    func(ctx context.Context, o Override) (int64, error)
	EndOverride func(ctx context.Context, id int64, who string) error
	// Links serve the signed links in pages; nil where there are none.
	Links *Links
	// Expect notes that something will happen to a board within a time; what is one of Announcements. It returns
	// ErrUnknownBoard for a wrong board.
	Expect        func(ctx context.Context, board, who, what string, within time.Duration) error
	Announcements []string
	// Reload takes over changed rule files and routes; its error names file, line and reason, and nothing is changed.
	Reload func() error
	// Ready is nil while everything answers; its error goes to the probe's log line, not to strangers.
	Ready func() error
	// Watch asks for a live lease of a board on behalf of a viewer.
	Watch func(board, viewer string, d time.Duration) error
	// Rejected counts dropped reports by reason.
	Rejected func() map[string]uint64
	// Off says what can page nobody now; nil: nothing is known of it.
	Off func() alerting.OffReport
	// Maintenance starts, ends and lists maintenances; nil where nobody is paged.
	Maintenance *Maintenance
	// Watcher is how the watcher is watched; nil where it is not.
	Watcher *Watcher
	// Own is what customers see and set; nil: nothing.
	Own *Own
	// Backups says how the collector's backups stand; nil where it has none.
	Backups func() Backups
	// History tells how a board did over a long time; it may wrap ErrBadHistory. RollupStatus says what it is made of.
	History      func(ctx context.Context, q HistoryQuery) ([]Span, error)
	RollupStatus func() Rollups
	// Counts are further totals shown by /api/status, such as readings or reports.
	Counts func() map[string]uint64

	Demo       *Demo
	Log        *slog.Logger          // nil: slog.Default
	Registerer prometheus.Registerer // nil: not registered
}

func (o *Options) check() error {
	switch {
	case o.Boards == nil:
		return errors.New("check dashboards options: Boards is missing")
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
