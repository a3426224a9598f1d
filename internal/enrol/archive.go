package enrol

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a zip. Compressed data may be a thousand times larger when it is
// unpacked: the sums count what comes out.
const (
	maxArchive      = 4 << 20 // bytes of the zip
	maxArchiveFiles = 100
	maxArchiveFile  = 1 << 20 // bytes of one file in it
	maxArchiveBytes = 8 << 20 // bytes of all files in all zips of one file
)

// archive reads the files of a zip, in memory. A zip in a zip is not opened.
func (r *reader) archive(where string, data []byte, depth int) {
	if r.answer.KeepClosed {
		r.answer.closed(where, "a zip")
		return
	}
	if depth > maxDepth {
		r.answer.problem(where, errors.New("is a zip in a zip: unpack it first"))
		return
	}
	if len(data) > maxArchive {
		r.answer.problem(where, fmt.Errorf("is a zip of more than %d bytes", maxArchive))
		return
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // nothing is unpacked to a path
		r.answer.problem(where, errors.New("is a broken or cut off zip"))
		return
	}
	if len(z.File) > maxArchiveFiles {
		r.answer.problem(where, fmt.Errorf("is a zip of %d files, %d are the most", len(z.File), maxArchiveFiles))
		return
	}
	for _, f := range z.File {
		if f.FileInfo().IsDir() || strings.HasPrefix(f.Name, "__MACOSX/") {
			continue
		}
		if r.unpack <= 0 {
			r.answer.problem(where, fmt.Errorf("more than %d bytes come out of it and the zips before it", maxArchiveBytes))
			return
		}
		name := within(where, f.Name)
		content, err := unpack(f, min(r.unpack, maxArchiveFile))
		if err != nil {
			r.answer.problem(name, err)
			r.unpack -= maxArchiveFile // or less: what is broken may have been unpacked
			continue
		}
		r.unpack -= int64(len(content))
		r.left += maxReadings * len(content)
		r.any(name, content, maxDepth+1)
	}
}

// unpack reads one file of a zip, whatever its header says of the size.
func unpack(f *zip.File, most int64) ([]byte, error) {
	if f.Flags&1 != 0 {
		return nil, errors.New("is encrypted: unpack the zip with its password first")
	}
	in, err := f.Open()
	if err != nil {
		return nil, errors.New("is packed in a way that is not supported")
	}
	defer in.Close()
	content, err := io.ReadAll(io.LimitReader(in, most+1))
	if int64(len(content)) > most {
		return nil, fmt.Errorf("is more than %d bytes when it is unpacked", most)
	}
	if err != nil {
		return nil, errors.New("is broken in the zip")
	}
	return content, nil
}
