package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// most is the longest answer of /bytes.
const most = 1 << 30

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "hello %s, by %s\n", r.RemoteAddr, r.Proto)
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err != nil || n < 0 || n > most {
			http.Error(w, fmt.Sprintf("a number of bytes up to %d", most), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(n))
		for n > 0 {
			k, err := w.Write(payload[:min(n, len(payload))])
			if err != nil {
				return
			}
			n -= k
		}
	})
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprintf(w, "%x  %d bytes\n", h.Sum(nil), n)
	})
	mux.HandleFunc("/discard", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})
	return mux
}

// payload is what /bytes sends, again and again.
var payload = func() (p [64 << 10]byte) {
	for i := range p {
		p[i] = "0123456789abcde\n"[i%16]
	}
	return p
}()
