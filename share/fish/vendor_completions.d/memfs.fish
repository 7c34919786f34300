# Printed by `make pages` from the tables of memfs: do not edit.

# The word for a subcommand stands here.
function __memfs_first
    test (count (commandline -opc)) -eq 1
end

# The subcommand is this one.
function __memfs_is
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end

# The arguments so far: what is no option, and no value of one.
function __memfs_arguments
    set -l valued 'mount -o' 'mount --symbols' 'info -o' 'info --symbols' 'ls -o' 'ls --symbols' 'cat --offset' 'cat --length' 'cat -o' 'cat --symbols' 'cp -o' 'cp --symbols' 'symbolize -o' 'symbolize --symbols' 'install-helper --prefix'
    set -l words (commandline -opc)
    set -l command $words[2]
    set -l skip no
    set -l ended no
    for word in $words[3..-1]
        if test $skip = yes
            set skip no
        else if test $ended = no; and test "$word" = --
            set ended yes
        else if test $ended = no; and string match -q -- '-?*' $word
            contains -- "$command $word" $valued; and set skip yes
        else
            echo -- $word
        end
    end
end

# The subcommand is this one, and there are so many arguments before the cursor (or more).
function __memfs_at
    __memfs_is $argv[1]; or return 1
    set -l have (count (__memfs_arguments))
    test $have -eq $argv[2]; or test "$argv[3]" = more -a $have -gt $argv[2]
end

# Paths inside the image that the first argument names.
function __memfs_image
    set -l program (string replace -r '^~/' "$HOME/" -- (commandline -opc)[1])
    set -l source (string replace -r '^~/' "$HOME/" -- (__memfs_arguments)[1])
    set -l directory (string replace -r '[^/]*$' '' -- (commandline -ct))
    for name in ($program ls -- $source $directory 2>/dev/null)
        if string match -qr '^(headers|notes|segments|regions|threads|threads/[^/]+|task|cpus|cpus/[^/]+)$' -- (string replace -r '^/' '' -- $directory$name)
            echo -- $directory$name/
        else
            echo -- $directory$name
        end
    end
end

# Words of -o, after the last comma.
function __memfs_mount_options
    set -l head (string replace -r '[^,]*$' '' -- (commandline -ct))
    printf '%s\n' $head'absent=zero	bytes that the image does not have read as zeros' 'allow_other	let other users look, as far as the modes allow' 'uid=	the owner of every file (default: who mounts)' 'gid=	the group of every file (default: who mounts)' 'umask=	bits that the modes lose (default: 0077)' 'fsname=	what the first column of /proc/mounts says (default: the source)' 'fuse=kernel	kernel (the default), or libfuse through mfusepy or fusepy' 'fuse=libfuse	kernel (the default), or libfuse through mfusepy or fusepy' 'fuse=mfusepy	kernel (the default), or libfuse through mfusepy or fusepy' 'fuse=fusepy	kernel (the default), or libfuse through mfusepy or fusepy' 'noswapin	what a process has in swap stays there: ENODATA' 'nobacking	what a process has only in mapped files is not read: ENODATA' 'symbols=	a kernel\'s System.map, kallsyms or vmlinux (default: its own memory)' 'log=	append the log to a file (default: stderr with -f, else syslog)'
end

complete -c memfs -f
complete -c memfs -n __memfs_first -l help -d 'show this help message and exit'
complete -c memfs -n __memfs_first -l version -d 'show program\'s version number and exit'
complete -c memfs -n __memfs_first -a 'mount' -d 'show an image as files below a directory'
complete -c memfs -n __memfs_first -a 'umount' -d 'end a mount'
complete -c memfs -n __memfs_first -a 'info' -d 'what an image is, a fact a line'
complete -c memfs -n __memfs_first -a 'ls' -d 'list a directory of an image, without a mount'
complete -c memfs -n __memfs_first -a 'cat' -d 'print files of an image, without a mount'
complete -c memfs -n __memfs_first -a 'cp' -d 'copy out of an image, sparse, without a mount'
complete -c memfs -n __memfs_first -a 'symbolize' -d 'name the kernel addresses in a text'
complete -c memfs -n __memfs_first -a 'tree' -d 'what there is below a mount, a file a line'
complete -c memfs -n __memfs_first -a 'doctor' -d 'what this machine has, what is missing, and what to do'
complete -c memfs -n __memfs_first -a 'install-helper' -d 'let mount(8) and fstab mount memfs'

complete -c memfs -n '__memfs_is mount' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is mount' -s f -d 'stay in the foreground'
complete -c memfs -n '__memfs_is mount' -s d -d 'print every request (and stay in the foreground)'
complete -c memfs -n '__memfs_is mount' -s v -d 'say what is mounted where'
complete -c memfs -n '__memfs_is mount' -s s -d 'drop options that nobody knows, instead of refusing them'
complete -c memfs -n '__memfs_is mount' -s o -xa '(__memfs_mount_options)' -d 'options, see memfs mount --help'
complete -c memfs -n '__memfs_is mount' -l symbols -r -F -d 'the same as -o symbols=FILE'
complete -c memfs -n '__memfs_is mount' -l debug -d 'show the traceback of an error'
complete -c memfs -n '__memfs_at mount 0' -F
complete -c memfs -n '__memfs_at mount 1' -xa '(__fish_complete_directories (commandline -ct))'

complete -c memfs -n '__memfs_is umount' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is umount' -s l -d 'now, even if files are open: they end with their last close'
complete -c memfs -n '__memfs_is umount' -l debug -d 'show the traceback of an error'
complete -c memfs -n '__memfs_at umount 0' -xa '(__fish_complete_directories (commandline -ct))'

complete -c memfs -n '__memfs_is info' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is info' -l json -d 'for programs: what info.json holds'
complete -c memfs -n '__memfs_is info' -s o -xa '(__memfs_mount_options)' -d 'options, see memfs mount --help'
complete -c memfs -n '__memfs_is info' -l symbols -r -F -d 'the same as -o symbols=FILE'
complete -c memfs -n '__memfs_is info' -l debug -d 'show the traceback of an error'
complete -c memfs -n '__memfs_at info 0' -F

complete -c memfs -n '__memfs_is ls' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is ls' -s l -d 'modes, sizes, times and where links lead'
complete -c memfs -n '__memfs_is ls' -s R -d 'directories below, too'
complete -c memfs -n '__memfs_is ls' -l json -d 'for programs: an array of objects'
complete -c memfs -n '__memfs_is ls' -s o -xa '(__memfs_mount_options)' -d 'options, see memfs mount --help'
complete -c memfs -n '__memfs_is ls' -l symbols -r -F -d 'the same as -o symbols=FILE'
complete -c memfs -n '__memfs_is ls' -l debug -d 'show the traceback of an error'
complete -c memfs -n '__memfs_at ls 0' -F
complete -c memfs -n '__memfs_at ls 1' -a '(__memfs_image)'

complete -c memfs -n '__memfs_is cat' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is cat' -l offset -x -d 'begin here (bytes; 0x for hex)'
complete -c memfs -n '__memfs_is cat' -l length -x -d 'at most so many bytes'
complete -c memfs -n '__memfs_is cat' -s o -xa '(__memfs_mount_options)' -d 'options, see memfs mount --help'
complete -c memfs -n '__memfs_is cat' -l symbols -r -F -d 'the same as -o symbols=FILE'
complete -c memfs -n '__memfs_is cat' -l debug -d 'show the traceback of an error'
complete -c memfs -n '__memfs_at cat 0' -F
complete -c memfs -n '__memfs_at cat 1 more' -a '(__memfs_image)'

complete -c memfs -n '__memfs_is cp' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is cp' -s r -d 'directories and all below them (but not mem)'
complete -c memfs -n '__memfs_is cp' -s o -xa '(__memfs_mount_options)' -d 'options, see memfs mount --help'
complete -c memfs -n '__memfs_is cp' -l symbols -r -F -d 'the same as -o symbols=FILE'
complete -c memfs -n '__memfs_is cp' -l debug -d 'show the traceback of an error'
complete -c memfs -n '__memfs_at cp 0' -F
complete -c memfs -n '__memfs_at cp 1' -a '(__memfs_image)'
complete -c memfs -n '__memfs_at cp 2' -F

complete -c memfs -n '__memfs_is symbolize' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is symbolize' -l json -d 'for programs: an object a line'
complete -c memfs -n '__memfs_is symbolize' -s v -d 'say how many addresses have no name'
complete -c memfs -n '__memfs_is symbolize' -s o -xa '(__memfs_mount_options)' -d 'options, see memfs mount --help'
complete -c memfs -n '__memfs_is symbolize' -l symbols -r -F -d 'the same as -o symbols=FILE'
complete -c memfs -n '__memfs_is symbolize' -l debug -d 'show the traceback of an error'
complete -c memfs -n '__memfs_at symbolize 0' -F
complete -c memfs -n '__memfs_at symbolize 1' -F

complete -c memfs -n '__memfs_is tree' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is tree' -l debug -d 'show the traceback of an error'

complete -c memfs -n '__memfs_is doctor' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is doctor' -l json -d 'for programs: an array of objects'
complete -c memfs -n '__memfs_is doctor' -l debug -d 'show the traceback of an error'

complete -c memfs -n '__memfs_is install-helper' -s h -l help -d 'show this help message and exit'
complete -c memfs -n '__memfs_is install-helper' -l prefix -xa '(__fish_complete_directories (commandline -ct))' -d 'write below DIR/sbin (default: /sbin)'
complete -c memfs -n '__memfs_is install-helper' -l remove -d 'take the helper away again'
complete -c memfs -n '__memfs_is install-helper' -l debug -d 'show the traceback of an error'
