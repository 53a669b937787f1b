package ws

import (
	"bytes"
	"iter"
	"net/http"
)

// head is that of a request or a response of HTTP/1.1 (RFC 9112), read where it
// lies: every slice is a part of the text.
type head struct {
	first  [3][]byte // method, target, version; or version, status, reason
	fields []field   // reused from one head to the next
}

type field struct{ name, value []byte }

// badHead is why a head is refused, and the status of the answer.
type badHead struct {
	status int
	text   string
}

func (b *badHead) Error() string { return b.text }

// What no head may have. A server in front that reads one of these in another
// way than we do would be a way to smuggle a request past it.
var (
	errBareLF   = &badHead{http.StatusBadRequest, "a line that does not end in CR LF"}
	errLine     = &badHead{http.StatusBadRequest, "a first line that is not of HTTP/1.1"}
	errTarget   = &badHead{http.StatusBadRequest, "a target that is no path"}
	errFold     = &badHead{http.StatusBadRequest, "a header over several lines"}
	errName     = &badHead{http.StatusBadRequest, "a header name that is no token"}
	errValue    = &badHead{http.StatusBadRequest, "a header value with a control character"}
	errHeadSize = &badHead{http.StatusRequestHeaderFieldsTooLarge, "a head that is too long"}
	errFields   = &badHead{http.StatusRequestHeaderFieldsTooLarge, "too many headers"}
)

// headEnd looks for the end of a head in p, of which the first from bytes were
// looked at before, and returns the length of the head, or 0 when it is not
// whole, and then how many bytes it has looked at.
func headEnd(p []byte, from int) (end, seen int, bad *badHead) {
	for {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			return 0, len(p), nil
		}
		at := from + i
		if at == 0 || p[at-1] != '\r' {
			return 0, at, errBareLF
		}
		if at >= 3 && p[at-3] == '\r' && p[at-2] == '\n' {
			return at + 1, at + 1, nil
		}
		from = at + 1
	}
}

// parse reads a whole head, which headEnd has found. Only what is the same for
// all heads is judged.
func (h *head) parse(p []byte, most int) *badHead {
	h.fields = h.fields[:0]
	line, p := cutLine(p)
	if bad := h.parseFirst(line); bad != nil {
		return bad
	}
	for {
		if line, p = cutLine(p); len(line) == 0 {
			return nil
		}
		if len(h.fields) == most {
			return errFields
		}
		f, bad := parseField(line)
		if bad != nil {
			return bad
		}
		h.fields = append(h.fields, f)
	}
}

// cutLine returns the line at the front of p without its end, and what follows.
func cutLine(p []byte) (line, rest []byte) {
	i := bytes.IndexByte(p, '\n')
	return p[:i-1], p[i+1:]
}

// parseFirst splits a first line at its first two spaces. The second is missing in
// the answers of some servers, with the reason.
func (h *head) parseFirst(line []byte) *badHead {
	a, rest, ok := bytes.Cut(line, space)
	b, c, _ := bytes.Cut(rest, space)
	if !ok || len(a) == 0 || len(b) == 0 || !isText(line) {
		return errLine
	}
	h.first = [3][]byte{a, b, c}
	return nil
}

var space = []byte(" ")

func parseField(line []byte) (field, *badHead) {
	i := bytes.IndexByte(line, ':')
	switch {
	case line[0] == ' ' || line[0] == '\t':
		return field{}, errFold
	case i < 0 || !isToken(line[:i]):
		return field{}, errName
	case !isText(line[i+1:]):
		return field{}, errValue
	}
	return field{line[:i], trim(line[i+1:])}, nil
}

// get returns the value of the first header of that name.
func (h *head) get(name string) (value []byte, ok bool) {
	for i := range h.fields {
		if equalFold(h.fields[i].name, name) {
			return h.fields[i].value, true
		}
	}
	return nil, false
}

// trim removes the white space around a value.
func trim(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
		p = p[1:]
	}
	for len(p) > 0 && (p[len(p)-1] == ' ' || p[len(p)-1] == '\t') {
		p = p[:len(p)-1]
	}
	return p
}

// equalFold reports whether p is s but for the case of ASCII letters.
func equalFold[T, U ~string | ~[]byte](p T, s U) bool {
	if len(p) != len(s) {
		return false
	}
	for i := range len(p) {
		if lower(p[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// isText reports whether p has no control character but the tab: field-content
// of RFC 9110, 5.5, which allows bytes above 0x7f.
func isText[T ~string | ~[]byte](p T) bool {
	for i := range len(p) {
		if b := p[i]; b < ' ' && b != '\t' || b == 0x7f {
			return false
		}
	}
	return true
}

// isToken reports whether p is a token of RFC 9110, 5.6.2.
func isToken[T ~string | ~[]byte](p T) bool {
	for i := range len(p) {
		if !tokens[p[i]] {
			return false
		}
	}
	return len(p) > 0
}

var tokens = func() (t [256]bool) {
	for _, b := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[b] = true
	}
	return t
}()

// nextItem returns the next item of a list with that separator, and the rest.
// Empty items are left out. A separator inside a quoted string separates nothing.
func nextItem(list []byte, sep byte) (item, rest []byte) {
	for len(list) > 0 {
		i, quoted := 0, false
		for ; i < len(list) && (quoted || list[i] != sep); i++ {
			switch {
			case list[i] == '"':
				quoted = !quoted
			case quoted && list[i] == '\\':
				i++
			}
		}
		i = min(i, len(list))
		item, rest = trim(list[:i]), nil
		if i < len(list) {
			rest = list[i+1:]
		}
		if len(item) > 0 {
			return item, rest
		}
		list = rest
	}
	return nil, nil
}

// hasItem reports whether a list that commas separate has that item, whatever
// its case.
func hasItem(list []byte, want string) bool {
	for item, rest := nextItem(list, ','); item != nil; item, rest = nextItem(rest, ',') {
		if equalFold(item, want) {
			return true
		}
	}
	return false
}

// items returns the items of all headers of that name, which are lists that
// commas separate.
func (h *head) items(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range h.fields {
			if !equalFold(h.fields[i].name, name) {
				continue
			}
			for item, rest := nextItem(h.fields[i].value, ','); item != nil; item, rest = nextItem(rest, ',') {
				if !yield(item) {
					return
				}
			}
		}
	}
}
