# Debian's cross compiler against an older C library, so that the runner starts on boards that have not been updated
# for years. EDGEQ_SYSROOT is a tree of Debian packages for EDGEQ_TRIPLE (locks/sysroot-*.toml).
string(REGEX MATCH "^[^-]+" processor ${EDGEQ_TRIPLE})
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR ${processor})
set(CMAKE_CXX_COMPILER ${EDGEQ_TRIPLE}-g++)
set(CMAKE_SYSROOT ${EDGEQ_SYSROOT})
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EDGEQ_SYSROOT EDGEQ_TRIPLE)

execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=include OUTPUT_VARIABLE own OUTPUT_STRIP_TRAILING_WHITESPACE)
set(usr ${EDGEQ_SYSROOT}/usr)
# The compiler's own C++ headers belong to its own, newer library: none of its search paths is used.
set(headers "-nostdinc -nostdinc++")
foreach(folder ${usr}/include/c++/10 ${usr}/include/${EDGEQ_TRIPLE}/c++/10 ${usr}/include/c++/10/backward ${own}
               ${usr}/include/${EDGEQ_TRIPLE} ${usr}/include)
  string(APPEND headers " -isystem \"${folder}\"")
endforeach()
set(CMAKE_CXX_FLAGS_INIT "${headers}")
set(libraries "")
foreach(folder ${usr}/lib/gcc/${EDGEQ_TRIPLE}/10 ${usr}/lib/${EDGEQ_TRIPLE} ${EDGEQ_SYSROOT}/lib/${EDGEQ_TRIPLE})
  string(APPEND libraries " \"-B${folder}/\" \"-L${folder}\"")
endforeach()
set(CMAKE_EXE_LINKER_FLAGS_INIT "${libraries} -Wl,--allow-shlib-undefined")

set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
