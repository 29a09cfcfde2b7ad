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
// a new board with the labels and rack=RACK.
func (r *Registry) NewRackToken(ctx context.Context, rack string, labels map[string]string, count int, pin string) (report.Token, error) {
	r.write.Lock()
	defer r.write.Unlock()
	if rack == "" {
		return report.Token{}, fmt.Errorf("make token: rack is empty: name the rack, such as --rack r1")
	}
	if count < 1 || count > maxRackBoards {
		return report.Token{}, fmt.Errorf("make token for rack %s: count %d: use 1 to %d", rack, count, maxRackBoards)
	}
	all := map[string]string{}
	maps.Copy(all, labels)
	all["rack"] = rack
	if err := ValidateLabels(all); err != nil {
		return report.Token{}, err
	}
	if err := checkCount([]Version{{Labels: sorted(all)}}); err != nil {
		return report.Token{}, err
	}
	return r.newToken(ctx, event{"make token", "rack " + rack, fmt.Sprintf("for %d boards", count)}, pin, enrolToken{labels: all, count: count})
}

// newToken stores t with a fresh id and secret. The caller holds r.write.
func (r *Registry) newToken(ctx context.Context, e event, pin string, t enrolToken, before ...statement) (report.Token, error) {
	token, now := report.NewToken(pin), time.Now()
	t.id, t.secret, t.expires, t.uses = token.ID, hash(token.Secret), now.Add(TokenLifetime), map[string]string{}
	e.detail = strings.TrimSpace(token.ID + " " + e.detail)
	before = append(before, exec(`INSERT INTO enrol_token VALUES (?, ?, ?, ?, ?, ?, ?)`,
		t.id, t.secret[:], nullable(t.board), encodeLabels(sorted(t.labels)), t.count, now.UnixMilli(), t.expires.UnixMilli()))
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

func (r *Registry) loadTokens(ctx context.Context) error {
	return r.each(ctx, `SELECT id, secret, coalesce(board, ''), labels, uses, expires FROM enrol_token`, func(rows *sql.Rows) error {
		t := enrolToken{uses: map[string]string{}}
		var secret []byte
		var text string
		var expires int64
		if err := rows.Scan(&t.id, &secret, &t.board, &text, &t.count, &expires); err != nil {
			return err
		}
		labels, err := decodeLabels(text)
		if err != nil {
			return fmt.Errorf("token %s: %w", t.id, err)
		}
		copy(t.secret[:], secret)
		t.labels, t.expires = Map(labels), moment(expires)
		r.tokens[t.id] = &t
		return nil
	})
}

func (r *Registry) loadUses(ctx context.Context) error {
	return r.each(ctx, `SELECT token, key, board FROM enrol_use`, func(rows *sql.Rows) error {
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

// loadChanges counts the changes of keys where it left off before a restart.
func (r *Registry) loadChanges(ctx context.Context) error {
	since := time.Now().Add(-keyChangeTime).UnixMilli()
	return r.each(ctx, fmt.Sprintf(`SELECT at, detail FROM audit WHERE action = '%s' AND at > %d ORDER BY id`, replaceKey, since), func(rows *sql.Rows) error {
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
