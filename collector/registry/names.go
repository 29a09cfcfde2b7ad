package registry

import (
	"fmt"
	"strconv"
	"strings"

	"bramble/pisensor/report"
)

// span is a run of numbered names: stem, then the numbers from first to last with at least width
// digits. A single name is a span without a number, of width 0.
type span struct {
	stem               string
	width, first, last int
}

// names are names that a rack's token has for its boards, in their order.
type names []span

// parseNames reads the value of `--names`: names and runs of them, such as r1-a-01..48, with commas
// between. Each name is one that a board can have, and stands there once.
func parseNames(text string) (n names, err error) {
	total, seen := 0, map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		s, err := parseSpan(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if total += s.len(); total > maxRackBoards {
			return nil, fmt.Errorf("names %.60q: more than %d: make several tokens", text, maxRackBoards)
		}
		for i := range s.len() {
			name := s.at(i)
			if err := report.ValidateBoard(name); err != nil {
				return nil, err
			}
			if seen[name] {
				return nil, fmt.Errorf("names %.60q: %s stands there twice", text, name)
			}
			seen[name] = true
		}
		n = append(n, s)
	}
	return n, nil
}

func parseSpan(text string) (span, error) {
	from, to, run := strings.Cut(text, "..")
	if !run {
		return span{stem: text}, nil
	}
	stem := strings.TrimRight(from, "0123456789")
	digits := from[len(stem):]
	first, errFirst := strconv.Atoi(digits)
	last, errLast := strconv.Atoi(to)
	if errFirst != nil || errLast != nil || last < first || last-first >= maxRackBoards {
		return span{}, fmt.Errorf("names %.60q: a run is written r1-a-01..48, the first number before the dots and the last one behind them, at most %d names", text, maxRackBoards)
	}
	return span{stem, len(digits), first, last}, nil
}

// numbers are a rack's first count numbers, r1-01 and so on.
func numbers(rack string, count int) names { return names{{stem(rack) + "-", 2, 1, count}} }

func (s span) len() int { return s.last - s.first + 1 }

// at is the i-th name.
func (s span) at(i int) string {
	if s.width == 0 {
		return s.stem
	}
	return fmt.Sprintf("%s%0*d", s.stem, s.width, s.first+i)
}

// has reports whether the names contain one. It takes the same time for every other name.
func (n names) has(name string) bool {
	for _, s := range n {
		digits, ok := strings.CutPrefix(name, s.stem)
		if !ok {
			continue
		}
		number, err := strconv.Atoi(digits)
		if s.width == 0 && digits == "" || err == nil && number >= s.first && number <= s.last && name == s.at(number-s.first) {
			return true
		}
	}
	return false
}

// len is how many names there are.
func (n names) len() (total int) {
	for _, s := range n {
		total += s.len()
	}
	return total
}

// at is the i-th name, empty behind the last one.
func (n names) at(i int) string {
	for _, s := range n {
		if i < s.len() {
			return s.at(i)
		}
		i -= s.len()
	}
	return ""
}
