//! Files that the operator changes while the program runs: whether what a path names has changed, links followed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What tells one content of a file from another. Where a folder's link is put elsewhere, as Kubernetes does it, the inode differs;
/// where a file is written anew, the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    /// Rights and owner too.
    changed: (i64, i64),
    bytes: u64,
}

/// How some files were at one moment, in their order; none of what could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileStamps(Vec<Option<Stamp>>);

impl FileStamps {
    /// Looks at files, by the settings that name them. Blocks as long as their disks do.
    pub(crate) fn look(files: &[(&'static str, PathBuf)]) -> FileStamps {
        let stamp = |(_, path): &(_, PathBuf)| {
            let data = fs::metadata(path).ok()?;
            let (modified, changed) = ((data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()));
            Some(Stamp { device: data.dev(), inode: data.ino(), modified, changed, bytes: data.size() })
        };
        FileStamps(files.iter().map(stamp).collect())
    }

    /// Whether all of them could be looked at.
    fn are_there(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }
}

/// What is to be done after a look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileVerdict {
    /// They are as they were taken over, or as they were refused.
    Known,
    /// They are to be read.
    Changed,
    /// They could not be used at the last look either, and have not changed since: that is to be told, once.
    StillBad(String),
}

/// What has become of the files until now. One that is being written is bad for a moment: only one that stays so is told of.
#[derive(Debug, Default)]
pub(crate) struct FileWatch {
    taken: Option<FileStamps>,
    refused: Option<(FileStamps, Option<String>)>,
}

impl FileWatch {
    pub(crate) fn verdict(&mut self, now: &FileStamps) -> FileVerdict {
        match &mut self.refused {
            Some((refused, why)) if refused == now => {
                why.take().map_or(FileVerdict::Known, FileVerdict::StillBad)
            }
            _ if self.taken.as_ref() == Some(now) => {
                self.refused = None;
                FileVerdict::Known
            }
            _ => FileVerdict::Changed,
        }
    }

    /// Read after that look, they were good.
    pub(crate) fn taken(&mut self, then: FileStamps) {
        *self = FileWatch { taken: Some(then), refused: None };
    }

    /// They were not.
    pub(crate) fn refused(&mut self, then: FileStamps, why: String) {
        self.refused = Some((then, Some(why)));
    }

    /// The next look finds them changed: others may be meant by now.
    pub(crate) fn forget(&mut self) {
        *self = FileWatch::default();
    }
}

/// One file that is read by whoever needs it: when it is worth to have it read, since another content has settled there.
#[derive(Debug, Default)]
pub(crate) struct SettledFile {
    known: Option<FileStamps>,
    seen: Option<FileStamps>,
}

impl SettledFile {
    /// After a look: whether it is another one than at the last time that this was so, and is as at the look before.
    pub(crate) fn is_other(&mut self, now: FileStamps) -> bool {
        if self.known.is_none() {
            self.known = Some(now);
            return false;
        }
        if self.known.as_ref() == Some(&now) || !now.are_there() {
            self.seen = None;
            return false;
        }
        let is_settled = self.seen.as_ref() == Some(&now);
        self.seen = Some(now.clone());
        if is_settled {
            self.known = Some(now);
        }
        is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_that_is_written_replaced_or_reached_by_another_link_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("tls.crt"), text).unwrap();
            // Nothing but what the link leads to tells the two apart.
            let file = fs::File::options().write(true).open(at(version).join("tls.crt")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let files = [("TLS_CERT", at("tls.crt"))];
        let first = FileStamps::look(&files);
        assert_eq!(FileStamps::look(&files), first);
        symlink("v2", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        let swapped = FileStamps::look(&files);
        assert_ne!(swapped, first);
        fs::write(at("v2/tls.crt"), "longer").unwrap();
        let written = FileStamps::look(&files);
        assert_ne!(written, swapped);
        fs::remove_file(at("tls.crt")).unwrap();
        assert_eq!(FileStamps::look(&files), FileStamps(vec![None]));
    }

    #[test]
    fn a_file_is_another_once_it_has_settled() {
        let stamps = |bytes: Option<u64>| {
            let stamp = |bytes| Stamp { device: 1, inode: 1, modified: (0, 0), changed: (0, 0), bytes };
            FileStamps(vec![bytes.map(stamp)])
        };
        let mut file = SettledFile::default();
        let looks = [
            (Some(1), false),
            (Some(1), false),
            // Half of it, all of it, and a second later.
            (Some(2), false),
            (Some(3), false),
            (Some(3), true),
            (Some(3), false),
            // Gone, and there again.
            (None, false),
            (None, false),
            (Some(3), false),
            (Some(4), false),
            (Some(4), true),
        ];
        for (number, (bytes, is_other)) in looks.into_iter().enumerate() {
            assert_eq!(file.is_other(stamps(bytes)), is_other, "look {number}");
        }
    }

    #[test]
    fn what_is_bad_is_told_once_and_only_when_it_has_settled() {
        let stamps = |bytes| {
            FileStamps(vec![Some(Stamp { device: 1, inode: 1, modified: (0, 0), changed: (0, 0), bytes })])
        };
        let mut watch = FileWatch::default();
        assert_eq!(watch.verdict(&stamps(1)), FileVerdict::Changed);
        watch.taken(stamps(1));
        assert_eq!(watch.verdict(&stamps(1)), FileVerdict::Known);
        assert_eq!(watch.verdict(&stamps(2)), FileVerdict::Changed);
        watch.refused(stamps(2), "half".into());
        // Written further: read again, and nothing is told of the half.
        assert_eq!(watch.verdict(&stamps(3)), FileVerdict::Changed);
        watch.refused(stamps(3), "bad".into());
        assert_eq!(watch.verdict(&stamps(3)), FileVerdict::StillBad("bad".into()));
        assert_eq!(watch.verdict(&stamps(3)), FileVerdict::Known);
        // As it was before: in force all the time.
        assert_eq!(watch.verdict(&stamps(1)), FileVerdict::Known);
        assert_eq!(watch.verdict(&stamps(3)), FileVerdict::Changed);
    }
}
