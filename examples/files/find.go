package main

import (
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// find returns the answer to a GET or HEAD of a file.
func (s *server) find(r *http.Request) *answer {
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = "."
	}
	f, fi, err := s.open(name)
	if err == nil && fi.IsDir() {
		_ = f.Close()
		if !strings.HasSuffix(r.URL.Path, "/") {
			a := &answer{status: http.StatusMovedPermanently}
			a.set("Location", (&url.URL{Path: strings.TrimSuffix(path.Clean("/"+r.URL.Path), "/") + "/"}).String())
			return a
		}
		name = path.Join(name, "index.html")
		f, fi, err = s.open(name)
	}
	switch {
	case err != nil:
		return failed(err)
	case !fi.Mode().IsRegular(), strings.HasSuffix(r.URL.Path, "/") && path.Base(name) != "index.html":
		_ = f.Close()
		return &answer{status: http.StatusNotFound}
	}
	return choose(r, name, f, fi)
}

// open opens what is within the root. A pipe does not wait for its writer.
func (s *server) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := s.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, fi, nil
}

// choose decides what of f is sent: nothing that the client has, or the range it
// asks for, or all of it.
func choose(r *http.Request, name string, f *os.File, fi fs.FileInfo) *answer {
	modified := fi.ModTime().UTC().Truncate(time.Second)
	etag := fmt.Sprintf(`"%x-%x"`, fi.ModTime().UnixNano(), fi.Size())
	a := &answer{status: http.StatusOK, file: f, n: fi.Size()}
	a.set("Last-Modified", modified.Format(http.TimeFormat))
	a.set("ETag", etag)
	if known(r.Header, etag, modified) {
		a.close()
		a.status = http.StatusNotModified
		return a
	}
	a.set("Accept-Ranges", "bytes")
	kind := mime.TypeByExtension(path.Ext(name))
	if kind == "" {
		kind = "application/octet-stream"
	}
	from, n, asked := span(r.Header.Get("Range"), fi.Size())
	switch {
	case r.Method != http.MethodGet || !asked || !same(r.Header.Get("If-Range"), etag, modified):
		a.set("Content-Type", kind)
	case n == 0:
		a.close()
		a.status = http.StatusRequestedRangeNotSatisfiable
		a.set("Content-Range", fmt.Sprintf("bytes */%d", fi.Size()))
	default:
		a.status = http.StatusPartialContent
		a.from, a.n = from, n
		a.set("Content-Type", kind)
		a.set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+n-1, fi.Size()))
	}
	return a
}

// known reports whether the client has the file as it is: If-None-Match decides
// where there is one, else If-Modified-Since (RFC 9110 section 13.2.2).
func known(h http.Header, etag string, modified time.Time) bool {
	if list := h.Get("If-None-Match"); list != "" {
		for tag := range strings.SplitSeq(list, ",") {
			if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
		return false
	}
	since, err := http.ParseTime(h.Get("If-Modified-Since"))
	return err == nil && !modified.After(since)
}

// same reports whether a range is of the file that the client has begun to read:
// If-Range is a strong tag or a date (RFC 9110 section 13.1.5), or not there.
func same(ifRange, etag string, modified time.Time) bool {
	if ifRange == "" || ifRange == etag {
		return true
	}
	at, err := http.ParseTime(ifRange)
	return err == nil && at.Equal(modified)
}

// span returns the part of size bytes that the header Range asks for. One that is
// not well-formed, or of several parts, asks for nothing, which RFC 9110 section
// 14.2 allows; one that has no byte of the file has n = 0.
func span(header string, size int64) (from, n int64, asked bool) {
	set, ok := strings.CutPrefix(header, "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(set), "-")
	if !ok || !dash || strings.Contains(set, ",") {
		return 0, 0, false
	}
	if first == "" { // The last so many bytes.
		k, ok := digits(last)
		k = min(k, size)
		return size - k, k, ok
	}
	from, ok = digits(first)
	to := size - 1
	if last != "" {
		k, fine := digits(last)
		ok = ok && fine && k >= from
		to = min(to, k)
	}
	return from, max(0, to-from+1), ok
}

// digits is a number without a sign. One that is too large is as large as can be.
func digits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, true
}
