package registry

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"strings"
	"time"

	"bramble/pisensor/report"
)

// TokenLifetime is how long an enrolment token waits for its first use. A rack's
// token ends then; a board's own, once used, stays good for its board until it
// is withdrawn: by a new token, or because the board is revoked or retired.
const TokenLifetime = 30 * 24 * time.Hour

// maxRackBoards bounds the boards that one leaked token can register.
const maxRackBoards = 10_000

// enrolToken is a stored enrolment token. Its fields are guarded by Registry.mu.
type enrolToken struct {
	id      string
	secret  digest
	board   string // empty for a rack's token
	labels  map[string]string
	count   int
	text    string            // of a rack's token made for names: the names as they were given
	names   names             // of a rack's token: those that its boards can wish for
	next    int               // of a rack's token: how many names are known to be taken, in their order
	created int64             // Unix ms
	expires time.Time         // zero = a board's token that was used: it stays good
	uses    map[string]string // public nkey → board; of a board's token the last key only
	changes []time.Time       // of a board's token: when it put a key in place of another, within keyChangeTime
	refused time.Time         // when it was last recorded that this happens too often
}

func (t *enrolToken) inForce(now time.Time) bool { return t.expires.IsZero() || t.expires.After(now) }

// changesSince returns the changes after an instant.
func (t *enrolToken) changesSince(from time.Time) []time.Time {
	var recent []time.Time
	for _, at := range t.changes {
		if at.After(from) {
			recent = append(recent, at)
		}
	}
	return recent
}

// NewBoardToken returns the token with which the board enrols, now and whenever
// it has lost its key (Enrol). It takes the place of the board's earlier tokens.
// A key in force stays in force until the token is used.
func (r *Registry) NewBoardToken(ctx context.Context, name, pin string) (report.Token, error) {
	r.write.Lock()
	defer r.write.Unlock()
	if _, err := r.active(name); err != nil {
		return report.Token{}, err
	}
	return r.newToken(ctx, event{"make token", name, ""}, pin, enrolToken{board: name, count: 1}, expireTokens(name))
}

// NewRackToken returns a token with which count boards can enrol. Each becomes
// a new board with the labels and rack=RACK. Its names are the rack's numbers.
func (r *Registry) NewRackToken(ctx context.Context, rack string, labels map[string]string, count int, pin string) (report.Token, error) {
	r.write.Lock()
	defer r.write.Unlock()
	if count < 1 || count > maxRackBoards {
		return report.Token{}, fmt.Errorf("make token for rack %s: count %d: use 1 to %d", rack, count, maxRackBoards)
	}
	all, err := rackLabels(rack, labels)
	if err != nil {
		return report.Token{}, err
	}
	return r.newToken(ctx, event{"make token", "rack " + rack, fmt.Sprintf("for %d boards", count)}, pin,
		enrolToken{labels: all, count: count, names: numbers(rack, count)})
}

// rackLabels are those of a rack's boards.
func rackLabels(rack string, labels map[string]string) (map[string]string, error) {
	if rack == "" {
		return nil, fmt.Errorf("make token: rack is empty: name the rack, such as --rack r1")
	}
	all := map[string]string{}
	maps.Copy(all, labels)
	all["rack"] = rack
	if err := ValidateLabels(all); err != nil {
		return nil, err
	}
	return all, checkCount([]Version{{Labels: sorted(all)}})
}

// NewNamesToken returns a token with which the boards of these names can enrol, such as
// "r1-a-01..48,r1-spare", as NewRackToken's. The names are the token's while it is in force: no
// other rack's token gives them away, and an earlier token that had one of them is withdrawn. count
// is how many of the names no board has yet; where there are none, that is an error.
func (r *Registry) NewNamesToken(ctx context.Context, text, rack string, labels map[string]string, pin string) (token report.Token, count int, err error) {
	r.write.Lock()
	defer r.write.Unlock()
	all, err := rackLabels(rack, labels)
	if err != nil {
		return token, 0, err
	}
	own, err := parseNames(text)
	if err != nil {
		return token, 0, fmt.Errorf("make token for rack %s: %w", rack, err)
	}
	earlier := map[string]*enrolToken{}
	for i := range own.len() {
		if _, taken := r.Board(own.at(i)); !taken {
			count++
		}
		if t := r.registered(own.at(i), ""); t != nil {
			earlier[t.id] = t
		}
	}
	if count == 0 {
		return token, 0, fmt.Errorf("make token for rack %s: boards have all names of %.60q already: `collector board token NAME` makes a token for each", rack, text)
	}
	var withdraw []statement
	now := time.Now().Truncate(time.Millisecond)
	for id := range earlier {
		withdraw = append(withdraw, exec(`UPDATE enrol_token SET expires = ? WHERE id = ?`, now.UnixMilli(), id))
	}
	token, err = r.newToken(ctx, event{"make token", "rack " + rack, "for " + text}, pin, enrolToken{labels: all, count: count, text: text, names: own}, withdraw...)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, t := range earlier {
			t.expires = now
		}
	}
	return token, count, err
}

// registered returns the token in force, other than one of an id, for which a name was registered.
func (r *Registry) registered(name, but string) *enrolToken {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := time.Now()
	for _, t := range r.tokens {
		if t.text != "" && t.id != but && t.inForce(now) && t.names.has(name) {
			return t
		}
	}
	return nil
}

// newToken stores t with a fresh id and secret. The caller holds r.write.
func (r *Registry) newToken(ctx context.Context, e event, pin string, t enrolToken, before ...statement) (report.Token, error) {
	token, now := report.NewToken(pin), r.voids.later(t.board, time.Now())
	t.id, t.secret, t.created, t.expires, t.uses = token.ID, hash(token.Secret), now.UnixMilli(), now.Add(TokenLifetime), map[string]string{}
	e.detail = strings.TrimSpace(token.ID + " " + e.detail)
	before = append(before, exec(`INSERT INTO enrol_token (id, secret, board, labels, uses, created, expires, names) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		t.id, t.secret[:], nullable(t.board), encodeLabels(sorted(t.labels)), t.count, t.created, t.expires.UnixMilli(), t.text))
	err := r.change(ctx, e, func() {
		if t.board != "" {
			r.dropTokens(t.board)
		}
		r.tokens[t.id] = &t
	}, before...)
	if err != nil {
		return report.Token{}, err
	}
	return token, nil
}

// expireTokens withdraws a board's tokens on disk, dropTokens in memory; the
// latter's caller holds r.mu.
func expireTokens(board string) statement {
	now := time.Now().UnixMilli()
	return exec(`UPDATE enrol_token SET expires = ? WHERE board = ? AND (expires = 0 OR expires > ?)`, now, board, now)
}

func (r *Registry) dropTokens(board string) {
	now := time.Now().Truncate(time.Millisecond) // as on disk
	for _, t := range r.tokens {
		if t.board == board && t.inForce(now) {
			t.expires = now
		}
	}
}

// TokenID checks an enrolment token's credentials, <id>.<secret>, and returns its id. It passes
// tokens that are expired, withdrawn or used up: their holder gets that error from Enrol.
func (r *Registry) TokenID(credentials string) (string, bool) {
	id, secret, _ := strings.Cut(credentials, ".")
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.tokens[id]
	if t == nil || !t.secret.matches(secret) {
		return "", false
	}
	return id, true
}

func (l loader) tokens(ctx context.Context) error {
	r := l.into
	return l.each(ctx, `SELECT id, secret, coalesce(board, ''), labels, uses, created, expires, names FROM enrol_token`, func(rows *sql.Rows) error {
		t := enrolToken{uses: map[string]string{}}
		var secret []byte
		var text string
		var expires int64
		if err := rows.Scan(&t.id, &secret, &t.board, &text, &t.count, &t.created, &expires, &t.text); err != nil {
			return err
		}
		labels, err := decodeLabels(text)
		if err != nil {
			return fmt.Errorf("token %s: %w", t.id, err)
		}
		copy(t.secret[:], secret)
		t.labels, t.expires = Map(labels), moment(expires)
		t.names = numbers(t.labels["rack"], t.count)
		if t.text != "" {
			if t.names, err = parseNames(t.text); err != nil {
				return fmt.Errorf("token %s: %w", t.id, err)
			}
		}
		r.tokens[t.id] = &t
		return nil
	})
}

func (l loader) uses(ctx context.Context) error {
	r := l.into
	return l.each(ctx, `SELECT token, key, board FROM enrol_use`, func(rows *sql.Rows) error {
		var token, key, board string
		if err := rows.Scan(&token, &key, &board); err != nil {
			return err
		}
		r.tokens[token].uses[key] = board
		return nil
	})
}

// replaceKey is the audit table's word for a key that took another's place.
const replaceKey = "replace key"

// changes counts the changes of keys where it left off before a restart.
func (l loader) changes(ctx context.Context) error {
	r := l.into
	since := time.Now().Add(-keyChangeTime).UnixMilli()
	return l.each(ctx, fmt.Sprintf(`SELECT at, detail FROM audit WHERE action = '%s' AND at > %d ORDER BY id`, replaceKey, since), func(rows *sql.Rows) error {
		var at int64
		var detail string
		if err := rows.Scan(&at, &detail); err != nil {
			return err
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(detail, "token "), " ")
		if t := r.tokens[id]; t != nil {
			t.changes = append(t.changes, moment(at))
		}
		return nil
	})
}
