//! What the system drops of datagrams because they are not read in time.

/// Datagrams that these UDP sockets, named by their inodes, have lost. Reads files of `/proc`.
pub fn udp_drops(sockets: &[u64]) -> u64 {
    if sockets.is_empty() {
        return 0;
    }
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].map(std::fs::read_to_string);
    tables.iter().flatten().map(|table| drops_in(table, sockets)).sum()
}

/// What a table of the system's sockets says was dropped of these: the tenth field is the inode, the last the count (proc(5)).
fn drops_in(table: &str, inodes: &[u64]) -> u64 {
    let drops = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let inode: u64 = fields.nth(9)?.parse().ok()?;
        let drops: u64 = fields.last()?.parse().ok()?;
        inodes.contains(&inode).then_some(drops)
    });
    drops.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_our_sockets() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             118: 0100007F:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n\
             119: 0100007F:14EA 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 5\n\
             broken\n";
        for (inodes, drops) in [(&[4711][..], 17), (&[4711, 4712], 22), (&[17], 0), (&[], 0)] {
            assert_eq!(drops_in(table, inodes), drops, "{inodes:?}");
        }
    }
}
