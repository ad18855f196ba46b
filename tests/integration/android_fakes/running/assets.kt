package android.content.res

import java.io.File
import java.io.FileNotFoundException
import java.io.InputStream

class AssetManager {
    /** Of the module or of its tests, as both lie in one test app. */
    fun open(name: String): InputStream =
        System.getProperty("edgeq.assets").split(":").map { File(it, name) }.firstOrNull { it.isFile }?.inputStream()
            ?: throw FileNotFoundException(name)
}
