// A Context whose assets and storage are folders; each property of the same name says which.
package android.content

import android.content.res.AssetManager
import java.io.File

class Context {
    fun getAssets(): AssetManager = AssetManager()

    fun getNoBackupFilesDir(): File = File(System.getProperty("edgeq.storage"))
}
