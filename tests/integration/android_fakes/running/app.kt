package android.app

import android.content.Context

class Instrumentation {
    fun getContext(): Context = Context()

    fun getTargetContext(): Context = Context()
}
