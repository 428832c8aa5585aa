//! What a folder of the system promises, and what is asked of it.

use super::*;
use crate::journal::simulated::SimulatedDisk;

#[test]
fn two_processes_cannot_use_one_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Folder::open(folder.path()).expect("free");
    let error = Folder::open(folder.path()).expect_err("in use").to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    // Nor when its file is gone: the folder itself is locked.
    fs::remove_file(folder.path().join("lock")).expect("removed");
    Folder::open(folder.path()).expect_err("in use");
    drop(first);
    Folder::open(folder.path()).expect("free again");
}

#[test]
fn a_folder_that_anybody_may_write_into_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("ours");
    let error = Folder::open(folder.path()).expect_err("refused").to_string();
    assert!(error.contains("mode 0777") && error.contains("chmod go-w"), "{error}");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o720)).expect("ours");
    let error = Folder::open(folder.path()).expect_err("refused").to_string();
    assert!(error.contains("mode 0720") && error.contains("chmod go-w"), "{error}");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    drop(Folder::open(folder.path()).expect("others may look"));
    // A folder of another owner: only root can make one.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path(), Some(12_345), None).expect("root may");
        let error = Folder::open(folder.path()).expect_err("refused").to_string();
        assert!(error.contains("belongs to user 12345") && error.contains("chown -R 0 "), "{error}");
    }
}

#[test]
fn a_link_where_a_file_of_ours_is_to_be_is_not_followed() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let target = other.path().join("target");
    fs::write(&target, "not ours").expect("written");
    std::os::unix::fs::symlink(&target, folder.path().join("lock")).expect("linked");
    let error = Folder::open(folder.path()).expect_err("refused").to_string();
    assert!(error.contains("lock: "), "{error}");
    fs::remove_file(folder.path().join("lock")).expect("removed");
    // The folder itself may be named by a link.
    let link = other.path().join("link");
    std::os::unix::fs::symlink(folder.path(), &link).expect("linked");
    let storage = Folder::open(&link).expect("opens");
    std::os::unix::fs::symlink(&target, folder.path().join("1.seg")).expect("linked");
    let error = storage.open("1.seg").err().expect("refused").to_string();
    assert!(error.contains("1.seg: "), "{error}");
    assert_eq!(fs::read(&target).expect("readable"), b"not ours");
}

#[test]
fn an_error_of_the_disk_names_the_file_and_keeps_its_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Folder::open(folder.path()).expect("opens");
    let name = folder.path().join("7.seg").display().to_string();
    let missing = storage.open("7.seg").err().expect("there is none");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert!(missing.to_string().starts_with(&format!("{name}: ")), "{missing}");
    let renamed = storage.rename("7.seg", "8.seg").expect_err("there is none");
    assert!(renamed.to_string().starts_with(&format!("{name}: ")), "{renamed}");
    assert_eq!(os_error(&missing), Some(Errno::NOENT.raw_os_error()));
}

#[test]
fn a_segment_takes_no_name_that_another_file_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let (real, simulated) = (Folder::open(folder.path()).expect("opens"), SimulatedDisk::new(1));
    let disks: [&dyn Storage; 2] = [&real, &simulated];
    for disk in disks {
        for (name, content) in [("1.free", b"free"), ("1.seg", b"kept")] {
            disk.create(name, 0).expect("made").write_at(content, 0).expect("written");
        }
        let error = disk.rename_new("1.free", "1.seg").expect_err("it has one");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let mut bytes = [0; 4];
        disk.open("1.seg").expect("there").read_at(&mut bytes, 0).expect("readable");
        assert_eq!(&bytes, b"kept");
        disk.rename_new("1.free", "2.seg").expect("nothing has it");
    }
}

#[test]
fn many_files_take_few_descriptors_and_are_read_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Folder::open(folder.path()).expect("opens");
    let prefix = folder.path().to_owned();
    let open = move || {
        let entries = fs::read_dir("/proc/self/fd").expect("readable");
        let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        targets.filter(|target| target.starts_with(&prefix)).count()
    };
    let files: Vec<_> = (0..100u8)
        .map(|number| {
            let file = storage.create(&format!("{number}.seg"), 0).expect("made");
            file.write_at(&[number], 0).expect("written");
            // What was written is synced on the descriptor that it was written to.
            file.sync().expect("synced");
            file
        })
        .collect();
    assert!(open() >= 100, "{}", open());
    files.iter().for_each(|file| file.rest());
    assert!(open() < 24, "{}", open());
    for (number, file) in (0..).zip(&files) {
        let mut byte = [0];
        assert_eq!((file.read_at(&mut byte, 0).expect("readable"), byte), (1, [number]));
    }
    assert!(open() < 24, "{}", open());
    // One that another has replaced is not taken for it.
    storage.rename("3.seg", "4.seg").expect("renamed");
    assert_eq!(files[4].read_at(&mut [0], 0).expect_err("another file").kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_has_room_where_the_file_system_sets_none_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    for (number, error) in [Errno::OPNOTSUPP, Errno::NOSYS].into_iter().enumerate() {
        for bytes in [1, 4096, ZERO_BYTES, 3 * ZERO_BYTES + 1] {
            let path = folder.path().join(format!("{number}-{bytes}"));
            let file = options().create_new(true).open(&path).expect("made");
            allocate(&file, bytes, |_, _| Err(error)).expect("zeros are written");
            let found = file.metadata().expect("there");
            assert_eq!(found.len(), bytes);
            assert!(found.blocks() * 512 >= bytes, "{} blocks for {bytes} bytes", found.blocks());
            assert!(fs::read(&path).expect("readable").iter().all(|byte| *byte == 0));
        }
    }
    let file = options().create_new(true).open(folder.path().join("full")).expect("made");
    let error = allocate(&file, 1 << 20, |_, _| Err(Errno::NOSPC)).expect_err("no room is no room");
    assert!(is_no_room(&error) && file.metadata().expect("there").len() == 0, "{error}");
}
